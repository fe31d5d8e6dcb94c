//! A virtual environment with llama.cpp's Python binding, compiled on this host.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use mnemos_image::host::{self, Needed};
use mnemos_image::{Cache, checkout, cmd, progress, sha256};

const REQUIREMENTS: &str = "qemu/bench/requirements.txt";
const FOR_PYTHON: &[Needed] = &[
    Needed {
        file: "/var/lib/dpkg/info/python3-venv.list",
        package: "python3-venv",
    },
    Needed {
        file: "/usr/bin/g++",
        package: "g++",
    },
];

/// llama.cpp for the instructions that the node's engine is compiled for (x86-64-v3), so that the comparison is fair,
/// and because a virtual machine may name AMX and fault on it. Without the image reader, which takes as long again.
const CMAKE_ARGS: &str = "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DLLAVA_BUILD=OFF";

/// The environment's Python, installing what is pinned when it is not there yet.
pub(super) fn environment(cache: &Cache) -> Result<PathBuf> {
    let requirements = checkout()?.join(REQUIREMENTS);
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = cache.dir("python")?.join(format!(
        "bench-{}",
        &sha256(&[&wanted, CMAKE_ARGS.as_bytes()].concat())[..16]
    ));
    let python = folder.join("bin/python3");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    host::ensure(FOR_PYTHON)?;
    progress::step("install llama-cpp-python (compiles, 10 min)", |step| {
        let mut venv = cmd::new("/usr/bin/python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        cmd::run(step, venv)?;
        let mut pip = cmd::new(&python);
        pip.env("CMAKE_ARGS", CMAKE_ARGS);
        pip.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--verbose",
            "--requirement",
        ])
        .arg(&requirements);
        cmd::run(step, pip)
    })?;
    fs::write(&complete, []).with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(python)
}
