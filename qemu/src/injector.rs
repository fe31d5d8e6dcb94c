//! Puts the tests' fault injector in front of a node's `/init`, leaving the node's own files as they are.
//!
//! The kernel unpacks one initramfs after another, so the injector is a second cpio behind the first.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mnemos_image::{Artifacts, Cache, cmd, progress};
use serde_json::Value;

use crate::machine::Boot;
use crate::vm::Vm;

/// The explicit target keeps `crt-static` away from procedural macros, which it would break.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The injector answers from `/proc` at once; a loaded guest under TCG needs some seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Direct kernel boot of `artifacts` with the injector. The machine needs its control port.
///
/// # Errors
/// When the injector cannot be built or the cache is full.
pub fn boot(artifacts: &Artifacts) -> Result<Boot> {
    let cache = Cache::open()?;
    let target = cache.dir("target/injector")?;
    let program = progress::step("compile the fault injector", |step| {
        let mut cargo = cmd::new("cargo");
        cargo.args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "mnemos-injector",
        ]);
        cargo.args([
            "--target",
            TARGET,
            "--config",
            "build.rustflags=['-C','target-feature=+crt-static']",
        ]);
        cargo
            .arg("--target-dir")
            .arg(&target)
            .current_dir(mnemos_image::checkout()?);
        cmd::run(step, cargo)?;
        Ok(target.join(TARGET).join("release/mnemos-injector"))
    })?;
    let initramfs = cache.dir("vm")?.join("with-injector.cpio");
    append(&artifacts.initramfs, &fs::read(&program)?, &initramfs)
        .with_context(|| format!("cannot write {}", initramfs.display()))?;
    Ok(Boot::Kernel {
        kernel: artifacts.kernel.clone(),
        initramfs,
        cmdline: format!("{} rdinit=/mnemos-injector", artifacts.cmdline),
    })
}

/// Kills every process of the node whose program is called `name`, and returns how many there were.
///
/// # Errors
/// When the injector does not answer or refuses.
pub fn kill(vm: &Vm, name: &str) -> Result<usize> {
    Ok(ask(vm, &format!("kill {name}"), "killed")?.len())
}

/// The node's user processes: objects with `pid` and `name`.
///
/// # Errors
/// When the injector does not answer or refuses.
pub fn processes(vm: &Vm) -> Result<Vec<Value>> {
    ask(vm, "processes", "processes")
}

/// The node's open ports: objects with `protocol`, `address` and `port`.
///
/// # Errors
/// When the injector does not answer or refuses.
pub fn listening(vm: &Vm) -> Result<Vec<Value>> {
    ask(vm, "listening", "listening")
}

fn ask(vm: &Vm, request: &str, field: &str) -> Result<Vec<Value>> {
    let answer = vm.control(request, ANSWER_LIMIT)?;
    let parsed: Value =
        serde_json::from_str(&answer).with_context(|| format!("the injector said {answer:?}"))?;
    match parsed.get(field).and_then(Value::as_array) {
        Some(list) => Ok(list.clone()),
        None => bail!("the injector answered {request:?} with {answer}"),
    }
}

fn append(initramfs: &Path, program: &[u8], output: &PathBuf) -> io::Result<()> {
    fs::copy(initramfs, output)?;
    let mut file = File::options().append(true).open(output)?;
    let length = file.metadata()?.len();
    let gap = length.next_multiple_of(4) - length;
    file.write_all(&[0; 4][..usize::try_from(gap).unwrap_or_default()])?;
    file.write_all(&cpio(program))
}

/// A cpio with the injector as its only file. Format: `newc`, Documentation/driver-api/early-userspace/buffer-format.rst.
fn cpio(program: &[u8]) -> Vec<u8> {
    let mut archive = Vec::with_capacity(program.len() + 512);
    entry(&mut archive, "mnemos-injector", 0o100_755, program);
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let size = content.len();
    let name_size = name.len() + 1;
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
    let header = format!(
        "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{size:08X}{:08X}{:08X}{:08X}{:08X}{name_size:08X}{:08X}",
        1, 0, 0, 1, 0, 0, 0, 0, 0, 0
    );
    archive.extend(header.as_bytes());
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_to_four_bytes() {
        let archive = cpio(b"program!!");
        assert_eq!(&archive[..6], b"070701");
        // 110 bytes of header and 16 of name end at 126, so the content starts at 128.
        assert_eq!(&archive[110..126], b"mnemos-injector\0");
        assert_eq!(&archive[128..137], b"program!!");
        assert_eq!(&archive[140..146], b"070701");
        assert!(archive.ends_with(b"TRAILER!!!\0\0\0\0"), "{archive:?}");
        assert_eq!(archive.len() % 4, 0);
    }
}
