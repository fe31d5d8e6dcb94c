//! When the node cannot go on: say why, stay up, and wait for a person. Never a reboot loop, never a hang without a word.

use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::system::RebootCommand;

use crate::console::Console;
use crate::kernel::{PowerButtons, WATCHDOG_TIMEOUT_S, now};
use crate::sys::{Received, Signals, Watchdog};

/// Prints `reason` everywhere and waits for Ctrl-Alt-Del or the power button. Never returns.
pub fn wait_for_operator(reason: &str, console: &mut Console) -> ! {
    console.emergency(now(), reason);
    // Opened anew: the caller's descriptors may be what broke.
    let signals = Signals::block_all();
    let mut power = PowerButtons::watch(Path::new("/dev/input"));
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    // Busy while a panicked PID 1 still holds it: then nobody feeds it, and it restarts the machine.
    let watchdog = Watchdog::arm(Path::new("/dev/watchdog0"), WATCHDOG_TIMEOUT_S).ok();
    let feed = Timespec {
        tv_sec: i64::from(WATCHDOG_TIMEOUT_S / 6),
        tv_nsec: 0,
    };
    loop {
        console.flush();
        if let Some(watchdog) = &watchdog {
            watchdog.feed();
        }
        let mut fds = Vec::new();
        fds.extend(signals.iter().map(std::os::fd::AsFd::as_fd));
        fds.extend(power.iter().flat_map(PowerButtons::descriptors));
        let mut polled: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let _ = rustix::event::poll(&mut polled, watchdog.is_some().then_some(&feed));
        if power.as_mut().is_ok_and(PowerButtons::check) {
            leave(RebootCommand::PowerOff);
        }
        while let Some(signal) = signals.as_ref().ok().and_then(Signals::next) {
            match signal {
                Received::CtrlAltDel | Received::Reboot => leave(RebootCommand::Restart),
                Received::PowerOff | Received::PowerFail | Received::Halt => {
                    leave(RebootCommand::PowerOff)
                }
                Received::ChildEnded => {
                    while let Ok(Some(_)) =
                        rustix::process::wait(rustix::process::WaitOptions::NOHANG)
                    {
                    }
                }
                Received::Other(_) => {}
            }
        }
    }
}

/// No sync: in an emergency nothing may hang, and the image is read-only.
fn leave(command: RebootCommand) {
    let _ = rustix::system::reboot(command);
}

/// Makes a panic of PID 1 end here instead of in a kernel panic.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let mut console = Console::open();
        wait_for_operator(
            &format!("mnemos-init has a defect, please report it: {panic}"),
            &mut console,
        );
    }));
}
