//! The libraries' settings, which exist as environment variables only.
//!
//! They are read once, by thread pools and loggers that start at a time of their own, so the program
//! sets them by executing itself again before it has any thread.

use std::{env, io, num::NonZeroUsize, os::unix::process::CommandExt, process::Command};

/// Marks the second execution; its value is the number of threads.
const MARK: &str = "MNEMOS_NEURON_THREADS";

/// Returns in the process that has the settings; replaces the process that has not.
///
/// # Errors
/// When the program cannot execute itself.
pub fn ensure(threads: NonZeroUsize) -> io::Result<()> {
    let threads = threads.to_string();
    if env::var(MARK).is_ok_and(|mark| mark == threads) {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "mnemos-neuron".into());
    Err(again()?
        .arg0(name)
        .args(arguments)
        .envs(settings(&threads))
        .exec())
}

/// This program once more.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place: the program executes itself"
)]
fn again() -> io::Result<Command> {
    Ok(Command::new(env::current_exe()?))
}

fn settings(threads: &str) -> [(&'static str, &str); 6] {
    [
        (MARK, threads),
        // Both of the engine's rayon pools: the global one (matrix products) and the one for attention.
        ("RAYON_NUM_THREADS", threads),
        // The engine creates this folder at load and only warns if it cannot: below a file, it cannot.
        ("HF_HOME", "/dev/null/hub"),
        ("TOKENIZERS_PARALLELISM", "false"),
        // The engine's own log lines: warnings, without colours. Two modules warn at every load, about
        // the folder above and about what a CPU does not have.
        (
            "RUST_LOG",
            "warn,mistralrs_core::pipeline::hf=error,mistralrs_core::pipeline::gguf=error",
        ),
        ("NO_COLOR", "1"),
    ]
}
