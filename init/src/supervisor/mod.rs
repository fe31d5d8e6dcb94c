//! The supervisor: which unit runs when. Pure: events and the time go in, actions come out.
//!
//! A unit starts when everything it is ordered after has settled and everything it also requires is up. A unit
//! that fails is started again for ever, ever more slowly; units ordered after it do not wait for the second try.
//! Going down, units stop in the reverse order, each with its deadline, all within [`SHUTDOWN_BUDGET`].

mod backoff;
mod event;
mod report;
mod shutdown;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use backoff::{Jitter, STABLE};
pub use event::{Action, Event, Exit, Leave, Notice, Severity, Signal, StageState};
pub use report::UnitReport;
pub use state::{Run, State, Then};

use crate::moment::Moment;
use crate::unit::{Kind, Restart, Service, ServiceType, UnitId, UnitSet};

/// All services together get this long to stop. Below the hard limits of those who wait for us: a UPS on
/// battery, a hypervisor's 90 s.
pub const SHUTDOWN_BUDGET: Duration = Duration::from_secs(45);

/// A process that SIGKILL did not end within this time hangs in the kernel; the shutdown goes on without it.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// A unit and what is remembered about it.
struct Slot {
    state: State,
    since: Moment,
    starts: u32,
    status: Option<String>,
    detail: Option<String>,
}

/// Whether the machine is coming up or going down.
enum Mode {
    Up,
    Down {
        leave: Leave,
        until: Moment,
        left: bool,
    },
}

/// The state of all units that the target pulls in.
pub struct Supervisor<'u> {
    units: &'u UnitSet,
    slots: BTreeMap<UnitId, Slot>,
    mode: Mode,
    jitter: Jitter,
    next_run: u64,
    actions: Vec<Action>,
}

impl<'u> Supervisor<'u> {
    /// All units below `target` wait; the first [`Event::Tick`] starts what can start.
    pub fn new(units: &'u UnitSet, target: UnitId, jitter: Jitter, now: Moment) -> Supervisor<'u> {
        let slot = || Slot {
            state: State::Waiting,
            since: now,
            starts: 0,
            status: None,
            detail: None,
        };
        let slots = units
            .pulled_in_by(target)
            .into_iter()
            .map(|id| (id, slot()))
            .collect();
        Supervisor {
            units,
            slots,
            mode: Mode::Up,
            jitter,
            next_run: 1,
            actions: Vec::new(),
        }
    }

    /// Takes in one event and says what is to be done.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Action> {
        match event {
            Event::Tick => {}
            Event::Executed { run } => self.on_executed(now, run),
            Event::SpawnFailed { run, error } => self.on_gone(now, run, false, error),
            Event::ConditionUnmet { run, reason } => self.on_condition_unmet(now, run, reason),
            Event::Exited { run, exit } => self.on_exited(now, run, exit),
            Event::Notified { run, notice } => self.on_notice(now, run, notice),
            Event::Shutdown(leave) => self.on_shutdown(now, leave),
        }
        self.expire(now);
        match self.mode {
            Mode::Up => self.start_what_can(now),
            Mode::Down { .. } => self.stop_what_can(now),
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        let budget = match self.mode {
            Mode::Down {
                until, left: false, ..
            } => Some(until),
            _ => None,
        };
        self.slots
            .values()
            .filter_map(|slot| slot.state.deadline())
            .chain(budget)
            .min()
    }

    /// Whether the machine is going down.
    pub fn is_going_down(&self) -> bool {
        matches!(self.mode, Mode::Down { .. })
    }

    /// The state of a unit, `None` when the target does not pull it in.
    pub fn state(&self, id: UnitId) -> Option<&State> {
        self.slots.get(&id).map(|slot| &slot.state)
    }

    fn unit_of(&self, run: Run) -> Option<UnitId> {
        self.slots
            .iter()
            .find(|(_, slot)| slot.state.run() == Some(run))
            .map(|(id, _)| *id)
    }

    fn service(&self, id: UnitId) -> Option<&'u Service> {
        match &self.units.unit(id).kind {
            Kind::Service(service) => Some(service),
            Kind::Target => None,
        }
    }

    fn name(&self, id: UnitId) -> &'u str {
        &self.units.unit(id).name
    }

    fn enter(&mut self, now: Moment, id: UnitId, state: State, detail: Option<String>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.since = now;
            slot.state = state;
            slot.detail = detail;
        }
        if !self.actions.contains(&Action::Report) {
            self.actions.push(Action::Report);
        }
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.actions.push(Action::Log { severity, text });
    }

    fn stage(&mut self, id: UnitId, state: StageState, detail: String) {
        if let Some(stage) = &self.units.unit(id).stage {
            self.actions.push(Action::Stage {
                stage: stage.clone(),
                state,
                detail,
            });
        }
    }

    /// Starts every waiting unit whose predecessors allow it, until nothing changes.
    fn start_what_can(&mut self, now: Moment) {
        loop {
            let free = self
                .slots
                .iter()
                .find(|(id, slot)| slot.state == State::Waiting && self.may_start(**id));
            let Some((&id, _)) = free else { return };
            self.start(now, id, 0);
        }
    }

    fn may_start(&self, id: UnitId) -> bool {
        self.blocker(id).is_none()
    }

    /// The first unit that keeps `id` from starting.
    fn blocker(&self, id: UnitId) -> Option<UnitId> {
        let requires = self.units.requires(id);
        let blocks = |other: &UnitId| {
            let Some(slot) = self.slots.get(other) else {
                return false;
            };
            // Who listens through PID 1's sockets is there for others as soon as it was started: they queue.
            let listens = |service: &Service| !service.listen.is_empty();
            if slot.state.run().is_some() && self.service(*other).is_some_and(listens) {
                false
            } else if requires.contains(other) {
                !slot.state.is_up()
            } else {
                !slot.state.is_settled()
            }
        };
        self.units
            .after(id)
            .iter()
            .copied()
            .find(|other| blocks(other))
    }

    fn start(&mut self, now: Moment, id: UnitId, failures: u32) {
        let Some(service) = self.service(id) else {
            return self.enter(now, id, State::Reached, None);
        };
        if failures == 0 {
            self.stage(id, StageState::Start, String::new());
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.starts += 1;
            slot.status = None;
        }
        self.spawn(
            now,
            id,
            0,
            failures,
            service.start_timeout.map(|timeout| now + timeout),
        );
    }

    fn spawn(
        &mut self,
        now: Moment,
        id: UnitId,
        step: usize,
        failures: u32,
        deadline: Option<Moment>,
    ) {
        let run = Run(self.next_run);
        self.next_run += 1;
        let detail = self
            .slots
            .get(&id)
            .and_then(|slot| slot.detail.clone())
            .filter(|_| failures > 0);
        self.enter(
            now,
            id,
            State::Starting {
                run,
                step,
                failures,
                deadline,
            },
            detail,
        );
        self.actions.push(Action::Spawn {
            run,
            unit: id,
            command: step,
        });
    }

    fn on_executed(&mut self, now: Moment, run: Run) {
        let Some(id) = self.unit_of(run) else { return };
        if self
            .service(id)
            .is_some_and(|service| service.service_type == ServiceType::Exec)
        {
            self.on_ready(now, id);
        }
    }

    fn on_ready(&mut self, now: Moment, id: UnitId) {
        let (Some(service), Some(State::Starting { run, failures, .. })) =
            (self.service(id), self.state(id))
        else {
            return;
        };
        let (run, failures) = (*run, *failures);
        let watchdog = service.watchdog.map(|span| now + span);
        self.stage(id, StageState::Ok, self.name(id).to_owned());
        self.enter(
            now,
            id,
            State::Running {
                run,
                failures,
                since: now,
                watchdog,
            },
            None,
        );
    }

    fn on_condition_unmet(&mut self, now: Moment, run: Run, reason: String) {
        let Some(id) = self.unit_of(run) else { return };
        self.log(
            Severity::Info,
            format!("{}: skipped: {reason}", self.name(id)),
        );
        self.stage(id, StageState::Skipped, reason.clone());
        let state = if self.is_going_down() {
            State::Stopped
        } else {
            State::Skipped
        };
        self.enter(now, id, state, Some(reason));
    }

    fn on_exited(&mut self, now: Moment, run: Run, exit: Exit) {
        let Some(id) = self.unit_of(run) else { return };
        self.actions.push(Action::KillGroup { unit: id });
        let (Some(service), Some(state)) = (self.service(id), self.state(id).cloned()) else {
            return;
        };
        let succeeded = exit == Exit::Status(0);
        match state {
            State::Starting {
                step,
                failures,
                deadline,
                ..
            } if service.service_type == ServiceType::Oneshot => {
                let forgiven = service
                    .commands
                    .get(step)
                    .is_some_and(|command| command.ignore_failure);
                if !succeeded && !forgiven {
                    self.on_gone(now, run, false, exit.to_string());
                } else if step + 1 < service.commands.len() && !self.is_going_down() {
                    self.spawn(now, id, step + 1, failures, deadline);
                } else {
                    self.stage(id, StageState::Ok, self.name(id).to_owned());
                    self.enter(now, id, State::Exited, None);
                }
            }
            State::Starting { .. } => {
                self.on_gone(now, run, false, format!("{exit} before it was ready"))
            }
            _ => self.on_gone(now, run, succeeded, exit.to_string()),
        }
    }

    /// The process of `run` is gone, or there never was one; `succeeded` when that was a clean end.
    fn on_gone(&mut self, now: Moment, run: Run, succeeded: bool, detail: String) {
        let Some(id) = self.unit_of(run) else { return };
        let (Some(service), Some(state)) = (self.service(id), self.state(id).cloned()) else {
            return;
        };
        let (failures, asked_to) = match state {
            State::Running { since, .. } if now - since >= STABLE => (0, None),
            State::Starting { failures, .. } | State::Running { failures, .. } => (failures, None),
            State::Stopping { failures, then, .. } => (failures, Some(then)),
            _ => return,
        };
        if self.is_going_down() || asked_to == Some(Then::Stay) {
            return self.enter(now, id, State::Stopped, Some(detail));
        }
        let detail = match asked_to {
            Some(_) => self
                .slots
                .get(&id)
                .and_then(|slot| slot.detail.clone())
                .unwrap_or(detail),
            None => detail,
        };
        let succeeded = succeeded && asked_to.is_none();
        let again = match service.restart {
            Restart::Always => true,
            Restart::OnFailure => !succeeded,
            Restart::No => false,
        };
        match (again, succeeded) {
            (true, _) => self.back_off(now, id, failures + 1, detail),
            (false, true) => self.enter(now, id, State::Exited, Some(detail)),
            (false, false) => {
                self.log(
                    Severity::Error,
                    format!("{}: {detail}; it is not restarted", self.name(id)),
                );
                self.stage(
                    id,
                    StageState::Failed,
                    format!("{}: {detail}", self.name(id)),
                );
                self.enter(now, id, State::Failed, Some(detail));
            }
        }
    }

    fn back_off(&mut self, now: Moment, id: UnitId, failures: u32, detail: String) {
        let Some(service) = self.service(id) else {
            return;
        };
        let wait = backoff::delay(
            failures,
            service.restart_delay,
            service.restart_max_delay,
            &mut self.jitter,
        );
        let name = self.name(id);
        let text = format!(
            "{name}: {detail}; failure {failures}, starts again in {} ms",
            wait.as_millis()
        );
        self.log(Severity::Warning, text);
        // A unit that keeps failing prints its 1st, 2nd, 4th … failure, not hundreds of lines.
        if failures.is_power_of_two() {
            self.stage(id, StageState::Failed, format!("{name}: {detail}"));
        }
        self.enter(
            now,
            id,
            State::Backoff {
                failures,
                until: now + wait,
            },
            Some(detail),
        );
    }

    fn on_notice(&mut self, now: Moment, run: Run, notice: Notice) {
        let Some(id) = self.unit_of(run) else { return };
        let is_notify = self
            .service(id)
            .is_some_and(|service| service.service_type == ServiceType::Notify);
        let watchdog = self.service(id).and_then(|service| service.watchdog);
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        match (notice, &mut slot.state) {
            (Notice::Ready, State::Starting { .. }) if is_notify => self.on_ready(now, id),
            (Notice::Watchdog, State::Running { watchdog: due, .. }) => {
                *due = watchdog.map(|span| now + span)
            }
            (
                Notice::ExtendTimeout(span),
                State::Starting {
                    deadline: Some(due),
                    ..
                },
            )
            | (
                Notice::ExtendTimeout(span),
                State::Stopping {
                    kill_at: due,
                    killed: false,
                    ..
                },
            ) => {
                *due = (*due).max(now + span);
            }
            (Notice::Status(status), _) if slot.status.as_ref() != Some(&status) => {
                slot.status = Some(status);
                self.actions.push(Action::Report);
            }
            _ => {}
        }
    }

    /// Acts on every deadline that has passed.
    fn expire(&mut self, now: Moment) {
        let due = |slot: &Slot| {
            slot.state
                .deadline()
                .is_some_and(|deadline| deadline <= now)
        };
        let ids: Vec<UnitId> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(state) = self.state(id).cloned() else {
                continue;
            };
            match state {
                State::Starting { run, failures, .. } => {
                    let why = "not ready in time, stopped".to_owned();
                    self.stop(
                        now,
                        id,
                        run,
                        failures,
                        Then::Fail,
                        Signal::Terminate,
                        Some(why),
                    );
                }
                State::Running {
                    run,
                    failures,
                    since,
                    ..
                } => {
                    let failures = if now - since >= STABLE { 0 } else { failures };
                    let why = "did not answer its watchdog, stopped".to_owned();
                    self.stop(now, id, run, failures, Then::Fail, Signal::Abort, Some(why));
                }
                State::Stopping {
                    run,
                    failures,
                    killed,
                    then,
                    ..
                } => {
                    self.on_stop_deadline(now, id, (run, failures, then), killed);
                }
                State::Backoff { failures, .. } if !self.is_going_down() => {
                    self.start(now, id, failures)
                }
                _ => {}
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call per reason to stop; a struct would be built and taken apart"
    )]
    fn stop(
        &mut self,
        now: Moment,
        id: UnitId,
        run: Run,
        failures: u32,
        then: Then,
        signal: Signal,
        why: Option<String>,
    ) {
        let timeout = self
            .service(id)
            .map_or(KILL_PATIENCE, |service| service.stop_timeout);
        self.actions.push(Action::Signal { run, signal });
        let state = State::Stopping {
            run,
            failures,
            kill_at: now + timeout,
            killed: false,
            then,
        };
        self.enter(now, id, state, why);
    }

    fn on_stop_deadline(
        &mut self,
        now: Moment,
        id: UnitId,
        process: (Run, u32, Then),
        killed: bool,
    ) {
        let (run, failures, then) = process;
        let name = self.name(id);
        if killed && self.is_going_down() {
            self.log(
                Severity::Error,
                format!("{name}: survives SIGKILL, left behind"),
            );
            return self.enter(now, id, State::Stopped, Some("survived SIGKILL".to_owned()));
        }
        if !killed {
            self.log(
                Severity::Warning,
                format!("{name}: did not stop in time, killed"),
            );
        }
        self.actions.push(Action::Signal {
            run,
            signal: Signal::Kill,
        });
        self.actions.push(Action::KillGroup { unit: id });
        let detail = self.slots.get(&id).and_then(|slot| slot.detail.clone());
        let state = State::Stopping {
            run,
            failures,
            kill_at: now + KILL_PATIENCE,
            killed: true,
            then,
        };
        self.enter(now, id, state, detail);
    }
}
