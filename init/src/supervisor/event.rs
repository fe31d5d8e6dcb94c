//! What can happen to the supervisor, and what it can ask for.

use std::time::Duration;

use super::state::Run;
use crate::unit::UnitId;

/// Everything that can wake PID 1 and matters to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The process replaced itself by the unit's program.
    Executed {
        /// Which process.
        run: Run,
    },
    /// There is no process: fork, set-up or `execve` failed.
    SpawnFailed {
        /// Which process.
        run: Run,
        /// What was tried, on which thing, and what the system said.
        error: String,
    },
    /// A condition of the unit does not hold, so it was not started.
    ConditionUnmet {
        /// Which start.
        run: Run,
        /// The condition as a sentence.
        reason: String,
    },
    /// The process has ended and was reaped.
    Exited {
        /// Which process.
        run: Run,
        /// How.
        exit: Exit,
    },
    /// A datagram on the unit's notify socket.
    Notified {
        /// From which process.
        run: Run,
        /// One of its lines.
        notice: Notice,
    },
    /// The machine shall go down. The first one counts.
    Shutdown(Leave),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// `exit(2)` with this status.
    Status(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// One thing a service says through sd_notify(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `READY=1`.
    Ready,
    /// `STOPPING=1`.
    Stopping,
    /// `WATCHDOG=1`.
    Watchdog,
    /// `STATUS=`.
    Status(String),
    /// `EXTEND_TIMEOUT_USEC=`.
    ExtendTimeout(Duration),
}

/// How PID 1 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Power off.
    PowerOff,
    /// Restart through the firmware.
    Reboot,
    /// Stop the CPUs, leave the power on.
    Halt,
}

/// What the supervisor asks the kernel side to do. What goes wrong comes back as an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start command number `command` of `unit` as process `run`, if the unit's conditions hold.
    Spawn {
        /// Name for the process from now on.
        run: Run,
        /// Whose command.
        unit: UnitId,
        /// Index into its commands.
        command: usize,
    },
    /// Send a signal to the process itself.
    Signal {
        /// Which process.
        run: Run,
        /// Which signal.
        signal: Signal,
    },
    /// Kill what is left in the unit's control group.
    KillGroup {
        /// Whose.
        unit: UnitId,
    },
    /// Print a stage line.
    Stage {
        /// The stage's name.
        stage: String,
        /// How it stands.
        state: StageState,
        /// One sentence or empty.
        detail: String,
    },
    /// Write to the log.
    Log {
        /// How bad it is.
        severity: Severity,
        /// One line.
        text: String,
    },
    /// The report changed: publish it.
    Report,
    /// All is stopped: leave the loop.
    Leave(Leave),
}

/// Signals the supervisor sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Terminate,
    /// End with a core dump: it stopped answering its watchdog.
    Abort,
    /// End.
    Kill,
}

/// State of a boot stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageState {
    /// Begun.
    Start,
    /// Done, or up.
    Ok,
    /// Not for this machine.
    Skipped,
    /// Went wrong; it may be tried again.
    Failed,
}

impl StageState {
    /// The word in the stage line.
    pub fn word(self) -> &'static str {
        match self {
            StageState::Start => "start",
            StageState::Ok => "ok",
            StageState::Skipped => "skipped",
            StageState::Failed => "failed",
        }
    }
}

/// Severity of a log line, numbered as in syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The machine cannot do its work.
    Error = 3,
    /// Something failed and is being dealt with.
    Warning = 4,
    /// What happens anyway.
    Info = 6,
}
