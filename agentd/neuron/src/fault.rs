//! Reasons to end the process, and the one place they are reported to.
//!
//! The engine cannot be repaired from inside: after a panic, a failed step or a hang its state is
//! unknown. So whoever notices raises a [`Fault`]; the server then answers what is open and exits, and
//! PID 1 starts a fresh process.

use std::{
    panic,
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use mnemos_engine_protocol::ErrorCode;
use tokio::sync::watch;

use crate::log;

/// Why the process ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// SIGTERM or SIGINT: not a fault, but ends the process the same way.
    #[error("the engine is being stopped")]
    Stopped,
    /// No token in time.
    #[error("the engine gave no token within {0} s and restarts itself")]
    Hung(u64),
    /// The engine reported that a step failed.
    #[error("the engine failed and restarts itself: {0}")]
    Step(String),
    /// A thread panicked.
    #[error("the engine panicked and restarts itself: {0}")]
    Panic(String),
    /// The engine dropped a request, or takes none any more.
    #[error("the engine stopped answering and restarts itself")]
    Gone,
}

impl Fault {
    /// What clients are told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Hung(_) => ErrorCode::Timeout,
            Self::Stopped | Self::Step(_) | Self::Panic(_) | Self::Gone => ErrorCode::Internal,
        }
    }

    /// 0 if the stop was wanted, else 70 (`EX_SOFTWARE` of sysexits.h).
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Stopped => ExitCode::SUCCESS,
            Self::Hung(_) | Self::Step(_) | Self::Panic(_) | Self::Gone => ExitCode::from(70),
        }
    }
}

/// The first fault, once there is one. Clones share it.
#[derive(Debug, Clone)]
pub struct Faults(Arc<watch::Sender<Option<Fault>>>);

/// The panic hook has no other way to reach it.
static PROCESS: LazyLock<Faults> = LazyLock::new(Faults::new);

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// No fault yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Those of this process, with every panic of every thread among them from now on.
    pub fn of_process() -> Self {
        let faults = PROCESS.clone();
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let text = info.payload_as_str().unwrap_or("no message");
            PROCESS.raise(Fault::Panic(format!("{place}: {text}")));
        }));
        faults
    }

    /// Reports a fault. Only the first counts: what follows is its consequence.
    pub fn raise(&self, fault: Fault) {
        let first = self.0.send_if_modified(|slot| {
            let first = slot.is_none();
            slot.get_or_insert(fault.clone());
            first
        });
        if first && fault == Fault::Stopped {
            log::info("stopping");
        } else {
            log::error(&fault.to_string());
        }
    }

    /// The fault, if there is one.
    pub fn raised(&self) -> Option<Fault> {
        self.0.borrow().clone()
    }

    /// Waits for the first fault.
    pub async fn wait(&self) -> Fault {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(slot) => slot.clone().unwrap_or(Fault::Gone),
            Err(_) => Fault::Gone, // Cannot be: `self` holds the sender.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_fault_counts() {
        let faults = Faults::new();
        assert_eq!(faults.raised(), None);
        faults.raise(Fault::Hung(3));
        faults.raise(Fault::Gone);
        assert_eq!(faults.wait().await, Fault::Hung(3));
        assert_eq!(Fault::Hung(3).error_code(), ErrorCode::Timeout);
    }

    #[tokio::test]
    async fn a_panic_in_any_thread_is_a_fault() {
        let faults = Faults::of_process();
        let thread = std::thread::spawn(|| panic!("kernel missing"));
        assert!(thread.join().is_err());
        let Fault::Panic(text) = faults.wait().await else {
            panic!("not a panic")
        };
        assert!(
            text.ends_with("kernel missing") && text.contains("fault.rs"),
            "{text}"
        );
        drop(std::panic::take_hook());
    }
}
