//! `cargo node`: builds what is missing, boots a node in QEMU, and says how to use it.

mod bench;
mod options;
mod prepare;
mod run;

use std::process::ExitCode;

use options::Task;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let result = match options.task {
        Task::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Task::Run => run::run(&options),
        Task::Check => run::check(&options),
        Task::Bench => bench::bench(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
