//! Compiles what ships, in the builder root.

use crate::builder::Builder;
use crate::cmd;
use crate::progress;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where the compiled programs are on the host.
pub(crate) struct Programs {
    /// PID 1, statically linked.
    pub(crate) init: PathBuf,
    /// The agent, its helper and the console.
    pub(crate) dynamic: Vec<PathBuf>,
    /// The engine.
    pub(crate) neuron: PathBuf,
}

/// Compiles everything that ships. Cargo decides what is still fresh.
///
/// # Errors
/// When a lock file is out of date, a crate cannot be fetched, or a compilation fails.
pub(crate) fn programs(builder: &Builder, checkout: &Path) -> Result<Programs> {
    progress::step("fetch crates", |step| {
        for dir in [checkout.to_path_buf(), checkout.join("agentd/neuron")] {
            let mut fetch = cmd::new("cargo");
            fetch.args(["fetch", "--locked"]).current_dir(dir);
            cmd::run(step, fetch)?;
        }
        Ok(())
    })?;
    let init = init(builder)?;
    let dynamic = agent(builder)?;
    let neuron = engine(builder)?;
    Ok(Programs {
        init,
        dynamic,
        neuron,
    })
}

/// PID 1. The explicit target keeps `crt-static` away from procedural macros, which it would break.
fn init(builder: &Builder) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    progress::step("compile PID 1", |step| {
        let mut cargo = builder.cargo("/src", "build", "/target/init");
        cargo.args(["--package", "mnemos-init", "--target", TARGET]);
        cargo.args([
            "--config",
            "build.rustflags=['-C','target-feature=+crt-static']",
        ]);
        cmd::run(step, cargo)
    })?;
    Ok(builder
        .target()
        .join("init")
        .join(TARGET)
        .join("release/mnemos-init"))
}

fn agent(builder: &Builder) -> Result<Vec<PathBuf>> {
    const PROGRAMS: [&str; 3] = ["mnemos-agentd", "mnemos-hostd", "mnemos-console"];
    progress::step("compile the agent", |step| {
        let mut cargo = builder.cargo("/src", "build", "/target/agent");
        for program in PROGRAMS {
            cargo.args(["--package", program]);
        }
        cmd::run(step, cargo)
    })?;
    Ok(PROGRAMS
        .iter()
        .map(|program| builder.target().join("agent/release").join(program))
        .collect())
}

/// The engine, about fifteen minutes on two cores when nothing is cached.
///
/// # Errors
/// When the compilation fails.
pub fn engine(builder: &Builder) -> Result<PathBuf> {
    progress::step("compile the engine (15 min the first time)", |step| {
        let mut cargo = builder.cargo("/src/agentd/neuron", "build", "/target/neuron");
        cargo.args(["--package", "mnemos-neuron"]);
        cmd::run(step, cargo)
    })?;
    let program = builder.target().join("neuron/release/mnemos-neuron");
    program
        .metadata()
        .with_context(|| format!("find {}", program.display()))?;
    Ok(program)
}
