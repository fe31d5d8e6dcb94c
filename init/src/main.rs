//! `mnemos-init`: `/init` of the initramfs, PID 1 of the node, and `poweroff`, `reboot`, `halt`, by the name it is called.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mnemos_init::boot;
use mnemos_init::console::Console;
use mnemos_init::kernel::{self, Cgroups, Ending, Kernel, Layout, now};
use mnemos_init::supervisor::{Jitter, Severity, Supervisor};
use mnemos_init::sys::{Received, Signals, ask_init};
use mnemos_init::unit::{UnitSet, load_dir};
use mnemos_init::{chain, emergency};

const UNITS: &str = "/usr/lib/mnemos/units";
const RUN: &str = "/run/mnemos/init";
const TARGET: &str = "mnemos.target";
const SCREEN_UNIT: &str = "mnemos-console.service";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let called = arguments
        .first()
        .and_then(|path| path.rsplit('/').next())
        .unwrap_or_default();
    let result = match called {
        "poweroff" => ask_init(Received::PowerOff),
        "reboot" => ask_init(Received::Reboot),
        "halt" => ask_init(Received::Halt),
        _ if arguments.get(1).is_some_and(|word| word == "check") => {
            return check(arguments.get(2));
        }
        _ if std::process::id() != 1 => {
            eprintln!("mnemos-init: runs as PID 1 only; `mnemos-init check DIR` checks unit files");
            return ExitCode::from(2);
        }
        "init" => {
            emergency::catch_panics();
            let (error, mut console) = boot::switch_to_root();
            emergency::wait_for_operator(&chain(&error), &mut console);
        }
        _ if arguments.get(1).is_some_and(|word| word == "namespace") => {
            return in_namespace(&arguments[2..]);
        }
        _ => {
            emergency::catch_panics();
            as_pid1()
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{called}: cannot signal PID 1: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `mnemos-init check DIR`: the image build's question, from the command line.
fn check(directory: Option<&String>) -> ExitCode {
    match load_dir(Path::new(directory.map_or(UNITS, String::as_str))) {
        Ok(units) => {
            println!("{} units", units.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// PID 1 on the real root. Never returns.
fn as_pid1() -> ! {
    let mut console = Console::open();
    let signals = Signals::block_all();
    let system = boot::set_up(&mut console);
    let (system, signals, units) = match (system, signals, load_dir(Path::new(UNITS))) {
        (Ok(system), Ok(signals), Ok(units)) => (system, signals, units),
        (Err(error), _, _) => emergency::wait_for_operator(&chain(&error), &mut console),
        (_, Err(error), _) => {
            emergency::wait_for_operator(&format!("no signals: {error}"), &mut console)
        }
        (_, _, Err(error)) => emergency::wait_for_operator(&chain(&error), &mut console),
    };
    let layout = Layout {
        run_dir: PathBuf::from(RUN),
        watchdog: Some(PathBuf::from("/dev/watchdog0")),
        screen_unit: units.find(SCREEN_UNIT),
    };
    let outcome = supervise(
        &units,
        layout,
        signals,
        system.cgroups,
        system.problems,
        console,
        Ending::Machine,
    );
    let reason = outcome
        .err()
        .unwrap_or_else(|| "reboot(2) returned".to_owned());
    emergency::wait_for_operator(&reason, &mut Console::open())
}

/// `mnemos-init namespace UNITS RUN [CGROUP]`: the same loop for tests, as PID 1 of name spaces that somebody else made:
/// it mounts nothing, and at the end it exits instead of calling reboot(2).
fn in_namespace(arguments: &[String]) -> ExitCode {
    let [units, run_dir, cgroup @ ..] = arguments else {
        eprintln!("usage: mnemos-init namespace UNITS RUN [CGROUP]");
        return ExitCode::from(2);
    };
    let (units, signals) = match (load_dir(Path::new(units)), Signals::block_all()) {
        (Ok(units), Ok(signals)) => (units, signals),
        (Err(error), _) => {
            eprintln!("mnemos-init: {}", chain(&error));
            return ExitCode::FAILURE;
        }
        (_, Err(error)) => {
            eprintln!("mnemos-init: cannot block signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let cgroups = cgroup
        .first()
        .and_then(|root| Cgroups::set_up(Path::new(root), 0).ok());
    let layout = Layout {
        run_dir: PathBuf::from(run_dir),
        watchdog: None,
        screen_unit: None,
    };
    match supervise(
        &units,
        layout,
        signals,
        cgroups,
        Vec::new(),
        Console::standard(),
        Ending::Namespace,
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("mnemos-init: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the loop to its end, then ends the machine or name space.
fn supervise(
    units: &UnitSet,
    layout: Layout,
    signals: Signals,
    cgroups: Option<Cgroups>,
    problems: Vec<String>,
    mut console: Console,
    ending: Ending,
) -> Result<(), String> {
    let Some(target) = units.find(TARGET) else {
        return Err(format!("there is no unit {TARGET}"));
    };
    console.log(Severity::Info, &format!("{} units loaded", units.len()));
    let mut kernel =
        Kernel::new(units, layout, signals, cgroups, console).map_err(|error| chain(&error))?;
    kernel.problems = problems;
    let mut seed = [0; 8];
    // Any seed will do; equal ones only mean that two nodes share their jitter.
    let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
    let mut supervisor =
        Supervisor::new(units, target, Jitter::new(u64::from_ne_bytes(seed)), now());
    let leave = kernel::run(&mut supervisor, &mut kernel).map_err(|error| chain(&error))?;
    kernel.end(leave, ending);
    Ok(())
}
