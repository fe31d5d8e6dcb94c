//! The end: kill what is left, unmount, sync, reboot. Every step has a deadline, since any of them may hang on a dead disk.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

use super::now;
use crate::console::Console;
use crate::supervisor::{Leave, Severity, StageState};
use crate::sys::{self, Signals};

/// From SIGTERM to SIGKILL for whatever no unit owns.
const STRANGERS: Duration = Duration::from_secs(2);
const UNMOUNT: Duration = Duration::from_secs(20);
/// talos and systemd give sync(2) a cap too: a suspended pool would hold it for ever.
const SYNC: Duration = Duration::from_secs(30);

/// Whether this PID 1 owns the machine or only a test's name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Unmount, sync, reboot.
    Machine,
    /// Kill what is left, and return.
    Namespace,
}

/// Ends everything. Returns only for [`Ending::Namespace`].
pub(super) fn end(leave: Leave, ending: Ending, signals: &Signals, console: &mut Console) {
    console.take_screen();
    console.stage(
        now(),
        "shutdown",
        StageState::Start,
        "services stopped, ending the rest",
    );
    kill_strangers(signals);
    if ending == Ending::Namespace {
        console.stage(now(), "shutdown", StageState::Ok, "all processes ended");
        return;
    }
    in_child("unmounting", UNMOUNT, console, unmount_all);
    in_child("writing back", SYNC, console, rustix::fs::sync);
    let what = match leave {
        Leave::PowerOff => "powering off",
        Leave::Reboot => "restarting",
        Leave::Halt => "halting",
    };
    console.stage(now(), "shutdown", StageState::Ok, what);
    flush(console);
    let command = match leave {
        Leave::PowerOff => RebootCommand::PowerOff,
        Leave::Reboot => RebootCommand::Restart,
        Leave::Halt => RebootCommand::Halt,
    };
    if let Err(error) = rustix::system::reboot(command) {
        crate::emergency::wait_for_operator(
            &format!("the kernel refused {what}: {error}"),
            console,
        );
    }
}

/// Gives the serial line time to take the last lines.
fn flush(console: &mut Console) {
    let until = now() + Duration::from_secs(1);
    while console.flush() && now() < until {
        wait_on(None, Duration::from_millis(20));
    }
}

fn kill_strangers(signals: &Signals) {
    for (signal, patience) in [(Signal::TERM, STRANGERS), (Signal::KILL, STRANGERS)] {
        // rustix has no "every process"; kill(2) means it by -1.
        if sys::signal_everyone(signal.as_raw()).is_err() {
            return;
        }
        let until = now() + patience;
        while now() < until {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    // SIGCHLD wakes this; its record only has to be read away.
                    wait_on(Some(signals.as_fd()), until - now());
                    while signals.next().is_some() {}
                }
                // ECHILD: nobody is left.
                Err(_) => return,
            }
        }
    }
}

/// Runs `work` in a child and goes on without it after `patience`.
fn in_child(what: &str, patience: Duration, console: &mut Console, work: impl FnOnce()) {
    let started = sys::fork_with_deadline(|| {
        work();
        0
    });
    let (pid, pidfd) = match started {
        Ok(child) => child,
        Err(error) => {
            return console.log(Severity::Error, &format!("{what}: cannot fork: {error}"));
        }
    };
    if wait_on(Some(pidfd.as_fd()), patience) {
        let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
    } else {
        let text = format!(
            "{what} took longer than {} s, going on without it",
            patience.as_secs()
        );
        console.log(Severity::Error, &text);
        console.stage(now(), "shutdown", StageState::Failed, &text);
    }
}

/// Waits until `fd` is readable (a pidfd: until the process has ended); false when `patience` ran out.
fn wait_on(fd: Option<BorrowedFd<'_>>, patience: Duration) -> bool {
    let until = now() + patience;
    loop {
        let mut polled: Vec<PollFd<'_>> = fd
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let timeout = Timespec::try_from(until - now()).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Unmounts in reverse order of mounting, ten rounds, as busy mounts free others; the root becomes read-only anyway.
fn unmount_all() {
    for _ in 0..10 {
        let mounts = mount_points(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        if mounts.is_empty() {
            return;
        }
        let unmounted = mounts
            .iter()
            .rev()
            .filter(|path| rustix::mount::unmount(Path::new(path), UnmountFlags::NOFOLLOW).is_ok());
        if unmounted.count() == 0 {
            return;
        }
    }
}

/// Mount points of the text of /proc/self/mountinfo that hold no part of the running system.
pub(super) fn mount_points(mountinfo: &str) -> Vec<String> {
    let stays = |path: &str| {
        path == "/"
            || ["/proc", "/sys", "/dev", "/run"]
                .iter()
                .any(|base| Path::new(path).starts_with(base))
    };
    let paths = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped);
    paths.filter(|path| !stays(path)).collect()
}

/// Undoes the octal escapes of proc(5): `\040` is a space.
fn unescaped(field: &str) -> String {
    let mut text = Vec::new();
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_go_is_unmounted() {
        let mountinfo = "1 1 0:1 / / ro - erofs /dev/loop0 ro\n2 1 0:2 / /proc rw - proc proc rw\n\
            3 1 0:3 / /var rw - tmpfs tmpfs rw\n4 3 0:4 / /var/a\\040b rw - zfs engram rw\n\
            5 1 0:5 / /runner rw - tmpfs x rw\n";
        assert_eq!(mount_points(mountinfo), ["/var", "/var/a b", "/runner"]);
    }
}
