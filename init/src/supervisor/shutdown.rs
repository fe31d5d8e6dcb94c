//! Going down: units stop in the reverse of the order they started in.

use super::{Action, Leave, Mode, SHUTDOWN_BUDGET, Severity, Signal, State, Supervisor, Then};
use crate::moment::Moment;
use crate::unit::UnitId;

impl Supervisor<'_> {
    pub(super) fn on_shutdown(&mut self, now: Moment, leave: Leave) {
        if self.is_going_down() {
            return;
        }
        self.mode = Mode::Down {
            leave,
            until: now + SHUTDOWN_BUDGET,
            left: false,
        };
        let idle: Vec<UnitId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.state.run().is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.enter(now, id, State::Stopped, None);
        }
    }

    /// Stops every unit that nothing running was started after; leaves when none has a process.
    pub(super) fn stop_what_can(&mut self, now: Moment) {
        let Mode::Down { leave, until, left } = self.mode else {
            return;
        };
        let processes: Vec<(UnitId, State)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.state.run().is_some())
            .map(|(id, slot)| (*id, slot.state.clone()))
            .collect();
        for (id, state) in &processes {
            let needed = processes
                .iter()
                .any(|(other, _)| self.units.after(*other).contains(id));
            match state {
                State::Starting { run, failures, .. } | State::Running { run, failures, .. }
                    if !needed =>
                {
                    self.stop(
                        now,
                        *id,
                        *run,
                        *failures,
                        Then::Stay,
                        Signal::Terminate,
                        None,
                    );
                }
                _ => {}
            }
        }
        if (processes.is_empty() || now >= until) && !left {
            for (id, _) in &processes {
                self.log(
                    Severity::Error,
                    format!("{}: out of time, left to the final kill", self.name(*id)),
                );
                self.enter(now, *id, State::Stopped, Some("out of time".to_owned()));
            }
            self.mode = Mode::Down {
                leave,
                until,
                left: true,
            };
            self.actions.push(Action::Leave(leave));
        }
    }
}
