//! The states of a unit, each with the data it needs and no other.
//!
//! ```text
//! Waiting --deps ready--> Starting --ready--> Running --stop--> Stopping --exit--> Stopped
//!    |                     |exit | last command done   |exit        |deadline: SIGKILL
//!    +-condition: Skipped  |     +-> Exited            |            |
//!                          v                           v            v (start or watchdog timed out)
//!                       Backoff <----------------------+------------+      Restart=no: Failed or Exited
//! ```

use crate::moment::Moment;

/// One start of a unit's process. Never used twice, so a late event cannot hit the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// What happens when a process that is being stopped has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The unit stays stopped: the machine goes down.
    Stay,
    /// It was stopped for misbehaving, which counts as a failure.
    Fail,
}

/// Where a unit is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started yet: something it is ordered after has not settled.
    Waiting,
    /// A condition did not hold.
    Skipped,
    /// A target whose predecessors have settled.
    Reached,
    /// A process runs but is not ready; for a oneshot, command number `step` runs.
    Starting {
        /// The process.
        run: Run,
        /// Index of the command.
        step: usize,
        /// Failures in a row before this start.
        failures: u32,
        /// When it is stopped for taking too long.
        deadline: Option<Moment>,
    },
    /// Ready.
    Running {
        /// The process.
        run: Run,
        /// Failures in a row before this start.
        failures: u32,
        /// When it became ready.
        since: Moment,
        /// When it is stopped unless it pings before.
        watchdog: Option<Moment>,
    },
    /// A oneshot that is done, or a service that ended well and is not restarted.
    Exited,
    /// Asked to end.
    Stopping {
        /// The process.
        run: Run,
        /// Failures in a row before this one.
        failures: u32,
        /// When SIGKILL follows, or when even that is given up.
        kill_at: Moment,
        /// SIGKILL was sent.
        killed: bool,
        /// What follows.
        then: Then,
    },
    /// Failed, and waits before it starts again.
    Backoff {
        /// Failures in a row, this one included.
        failures: u32,
        /// When it starts again.
        until: Moment,
    },
    /// Stopped because the machine goes down.
    Stopped,
    /// Failed, and `Restart=` does not start it again.
    Failed,
}

impl State {
    /// The process of this state, if it has one.
    pub fn run(&self) -> Option<Run> {
        match self {
            State::Starting { run, .. }
            | State::Running { run, .. }
            | State::Stopping { run, .. } => Some(*run),
            State::Waiting
            | State::Skipped
            | State::Reached
            | State::Exited
            | State::Backoff { .. }
            | State::Stopped
            | State::Failed => None,
        }
    }

    /// When something is due in this state.
    pub fn deadline(&self) -> Option<Moment> {
        match self {
            State::Starting { deadline, .. } => *deadline,
            State::Running { watchdog, .. } => *watchdog,
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Backoff { until, .. } => Some(*until),
            State::Waiting
            | State::Skipped
            | State::Reached
            | State::Exited
            | State::Stopped
            | State::Failed => None,
        }
    }

    /// Whether units ordered after this one may go on: it is up, done, skipped, or has failed once.
    pub fn is_settled(&self) -> bool {
        match self {
            State::Waiting => false,
            State::Starting { failures, .. } => *failures > 0,
            State::Skipped
            | State::Reached
            | State::Running { .. }
            | State::Exited
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Stopped
            | State::Failed => true,
        }
    }

    /// Whether a unit that requires this one may start.
    pub fn is_up(&self) -> bool {
        matches!(
            self,
            State::Running { .. } | State::Reached | State::Exited | State::Skipped
        )
    }

    /// The word for it in `services.json`.
    pub fn word(&self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Skipped => "skipped",
            State::Starting { .. } => "starting",
            State::Running { .. } | State::Reached => "running",
            State::Exited => "exited",
            State::Stopping { .. } => "stopping",
            State::Backoff { .. } => "backoff",
            State::Stopped => "stopped",
            State::Failed => "failed",
        }
    }
}
