//! The processes PID 1 has started, and the one reaper of all that end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Signal as KernelSignal, WaitOptions};

use super::Entry;
use crate::supervisor::{Event, Exit, Run, Signal};
use crate::sys::{self, ChildError, Place, Plan};
use crate::unit::UnitId;

struct Process {
    unit: UnitId,
    pid: i32,
    pidfd: OwnedFd,
    /// Until `execve` is known to have succeeded or failed: the pipe that tells, and what was planned.
    unconfirmed: Option<(OwnedFd, Box<Plan>)>,
}

/// Processes by the run they belong to.
#[derive(Default)]
pub(super) struct Processes {
    running: BTreeMap<Run, Process>,
}

impl Processes {
    pub(super) fn spawn(
        &mut self,
        run: Run,
        unit: UnitId,
        plan: Plan,
        cgroup: Option<&Entry>,
        passed: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let place = match cgroup {
            Some(Entry::Cloned(directory)) => Place::Clone(directory.as_fd()),
            Some(Entry::Moved(procs)) => Place::Move(procs.as_fd()),
            None => Place::Here,
        };
        let spawned = sys::spawn(&plan, place, passed)?;
        let unconfirmed = Some((spawned.errors, Box::new(plan)));
        self.running.insert(
            run,
            Process {
                unit,
                pid: spawned.pid,
                pidfd: spawned.pidfd,
                unconfirmed,
            },
        );
        Ok(())
    }

    /// The process id of a run that has not been reaped.
    pub(super) fn pid(&self, run: Run) -> Option<i32> {
        self.running.get(&run).map(|process| process.pid)
    }

    /// The run whose main process in `unit` has this id.
    pub(super) fn main_run(&self, unit: UnitId, pid: i32) -> Option<Run> {
        let mut running = self.running.iter();
        running
            .find(|(_, process)| process.unit == unit && process.pid == pid)
            .map(|(run, _)| *run)
    }

    /// Sends `signal`, through the pidfd: never to a process that took over the number.
    pub(super) fn signal(&self, run: Run, signal: Signal) {
        let signal = match signal {
            Signal::Terminate => KernelSignal::TERM,
            Signal::Abort => KernelSignal::ABORT,
            Signal::Kill => KernelSignal::KILL,
        };
        if let Some(process) = self.running.get(&run) {
            // Fails only for a zombie, whose exit is about to be reaped.
            let _ = rustix::process::pidfd_send_signal(&process.pidfd, signal);
        }
    }

    /// The pipes of children that have not executed their program yet.
    pub(super) fn unconfirmed(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running
            .values()
            .filter_map(|process| process.unconfirmed.as_ref())
            .map(|(pipe, _)| pipe.as_fd())
    }

    /// Reads those pipes.
    pub(super) fn confirm(&mut self) -> Vec<Event> {
        self.running
            .iter_mut()
            .filter_map(|(run, process)| process.confirm(*run))
            .collect()
    }

    /// Reaps everything that has ended, strangers too. The pipe of a dead child is read first: a child that could not
    /// execute its program is reported as such and not as an exit.
    pub(super) fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some(run) = self
                .running
                .iter()
                .find(|(_, process)| process.pid == pid)
                .map(|(run, _)| *run)
            else {
                continue;
            };
            let Some(mut process) = self.running.remove(&run) else {
                continue;
            };
            let confirmed = process.confirm(run);
            let failed = matches!(confirmed, Some(Event::SpawnFailed { .. }));
            events.extend(confirmed);
            if !failed {
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Status(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or_default()),
                };
                events.push(Event::Exited { run, exit });
            }
        }
        events
    }
}

impl Process {
    fn confirm(&mut self, run: Run) -> Option<Event> {
        let (pipe, plan) = self.unconfirmed.as_ref()?;
        let mut report = [0; 6];
        match rustix::io::read(pipe, &mut report) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Ok(read) if read > 0 => {
                let error = match ChildError::parse(&report[..read]) {
                    Some(error) => error.sentence(plan),
                    None => "its child failed without saying how".to_owned(),
                };
                self.unconfirmed = None;
                Some(Event::SpawnFailed { run, error })
            }
            _ => {
                self.unconfirmed = None;
                Some(Event::Executed { run })
            }
        }
    }
}
