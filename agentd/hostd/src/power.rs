//! Power off and reboot: PID 1 takes the same real-time signals as systemd.

use std::io;

use rustix::process::{Pid, Signal, kill_process};
use rustix_libc_wrappers::process::SignalExt;

use crate::protocol::Operation;

/// Why PID 1 was not told.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The C library has no such real-time signal.
    #[error("no real-time signal SIGRTMIN+{0}")]
    NoSignal(i32),
    /// The kernel refused.
    #[error("cannot signal process {pid}")]
    Signal {
        /// Whom.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Offset from `SIGRTMIN` that starts `poweroff.target` or `reboot.target`: systemd(1), section Signals.
fn signal_offset(operation: Operation) -> i32 {
    match operation {
        Operation::PowerOff => 4,
        Operation::Reboot => 5,
    }
}

/// Asks `init` for an orderly shutdown; returns once the signal is queued.
///
/// # Errors
/// `EPERM` or `ESRCH` from kill(2).
pub fn signal_init(init: Pid, operation: Operation) -> Result<(), PowerError> {
    let offset = signal_offset(operation);
    let signal: Signal = SignalExt::rt(offset).ok_or(PowerError::NoSignal(offset))?;
    kill_process(init, signal).map_err(|errno| PowerError::Signal {
        pid: init.as_raw_nonzero().get(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// A real process that dies of the first signal it does not ignore.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only process these tests start"
    )]
    fn victim() -> std::process::Child {
        std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap()
    }

    /// 34 is glibc's SIGRTMIN, which systemd's numbers build on; the kernel's own is 32.
    #[test]
    fn sends_systemds_signals() {
        for (operation, expected) in [(Operation::PowerOff, 34 + 4), (Operation::Reboot, 34 + 5)] {
            let mut child = victim();
            signal_init(Pid::from_child(&child), operation).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(expected));
        }
    }

    #[test]
    fn says_which_process_could_not_be_signalled() {
        let gone = {
            let mut child = victim();
            child.kill().unwrap();
            let pid = Pid::from_child(&child);
            child.wait().unwrap();
            pid
        };
        let error = signal_init(gone, Operation::Reboot).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot signal process {}", gone.as_raw_nonzero())
        );
    }
}
