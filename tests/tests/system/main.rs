//! Real nodes: the built ISO and kernel in QEMU, driven by a real OpenAI client that trusts the node's CA.
//!
//! A machine under TCG takes most of a minute to boot, so tests share one where they can. Arguments: parts of
//! test names, and `--long` for the whole media matrix.

mod api;
mod edge;
mod faults;
mod machines;
mod media;
mod refusals;

use std::process::ExitCode;

use mnemos_tests::runner::Runner;

use crate::machines::Machines;

fn main() -> ExitCode {
    let (flags, filters): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("--"));
    if let Some(flag) = flags.iter().find(|flag| flag.as_str() != "--long") {
        eprintln!("{flag} is no option; there is only --long, and parts of test names");
        return ExitCode::from(2);
    }
    let machines = match Machines::prepare() {
        Ok(machines) => machines,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut runner = Runner::new(filters);
    api::run(&mut runner, &machines);
    media::run(&mut runner, &machines, !flags.is_empty());
    faults::run(&mut runner, &machines);
    edge::run(&mut runner, &machines);
    if runner.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
