//! `mnemos-neuron`: see the library for what it is made of.

use std::{env, error::Error, num::NonZeroUsize, process::ExitCode, time::Instant};

use mnemos_neuron::{
    bench,
    cli::{self, Command},
    cpu, engine, environment,
    fault::Faults,
    log, notify, server,
};

/// `EX_USAGE` of sysexits.h.
const USAGE_ERROR: u8 = 64;
/// `EX_CONFIG`: trying again changes nothing.
const CANNOT_RUN: u8 = 78;

fn main() -> ExitCode {
    let started = Instant::now();
    // First of all: the rest of the program is full of instructions an older CPU does not have.
    if let Err(missing) = cpu::check() {
        return fail(&missing, CANNOT_RUN);
    }
    let command = match cli::parse(env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            log::error(&error.to_string());
            eprintln!("{}", cli::USAGE);
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let threads = command.threads().unwrap_or_else(cpu::threads);
    if let Err(error) = environment::ensure(threads) {
        return fail(&error, CANNOT_RUN);
    }
    run(&command, threads, started)
}

fn run(command: &Command, threads: NonZeroUsize, started: Instant) -> ExitCode {
    let faults = Faults::of_process();
    let threads = u32::try_from(threads.get()).unwrap_or(u32::MAX);
    match command {
        Command::Serve(options) => {
            engine::log_warnings(); // To stdout, which belongs to the report of a bench.
            match server::run(options, threads, started, faults) {
                Ok(fault) => fault.exit_code(),
                Err(error) => fail(&error, 1),
            }
        }
        Command::Bench(options) => match bench::run(options, threads) {
            Ok(report) => print(&report),
            Err(error) => fail(&error, 1),
        },
    }
}

fn print(report: &bench::Report) -> ExitCode {
    match serde_json::to_string(report) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, 1),
    }
}

/// One sentence for the journal and for PID 1's list of services.
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    let sentence = log::chain(error);
    log::error(&sentence);
    notify::status(&sentence);
    ExitCode::from(code)
}
