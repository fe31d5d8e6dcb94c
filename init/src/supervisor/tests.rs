//! The supervisor without processes: every event sequence, however odd, must keep its invariants.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::unit::{UnitName, UnitSet, parse_unit};

fn unit_set(files: &[(&str, &str)]) -> UnitSet {
    let parse = |(name, text): &(&str, &str)| {
        let name: UnitName = name.parse().unwrap();
        parse_unit(&name, Path::new("test"), text).unwrap()
    };
    UnitSet::new(files.iter().map(parse).collect()).unwrap()
}

/// Drives a supervisor and keeps the processes that would exist.
struct Machine<'u> {
    units: &'u UnitSet,
    supervisor: Supervisor<'u>,
    now: Moment,
    processes: BTreeMap<Run, UnitId>,
    left: Option<Leave>,
    stages: Vec<(String, StageState)>,
}

impl<'u> Machine<'u> {
    fn new(units: &'u UnitSet) -> Machine<'u> {
        let target = units.find("t.target").unwrap();
        let now = Moment::default();
        let supervisor = Supervisor::new(units, target, Jitter::new(7), now);
        let mut machine = Machine {
            units,
            supervisor,
            now,
            processes: BTreeMap::new(),
            left: None,
            stages: Vec::new(),
        };
        machine.send(Event::Tick);
        machine
    }

    fn send(&mut self, event: Event) {
        if let Event::Exited { run, .. }
        | Event::SpawnFailed { run, .. }
        | Event::ConditionUnmet { run, .. } = &event
        {
            self.processes.remove(run);
        }
        let was_going_down = self.supervisor.is_going_down() || matches!(event, Event::Shutdown(_));
        for action in self.supervisor.handle(self.now, event) {
            match action {
                Action::Spawn { run, unit, .. } => {
                    assert!(
                        !was_going_down,
                        "started {} while going down",
                        self.units.unit(unit).name
                    );
                    assert!(
                        !self.processes.values().any(|other| *other == unit),
                        "two processes of a unit"
                    );
                    assert_eq!(self.processes.insert(run, unit), None, "a run used twice");
                }
                Action::Leave(leave) => {
                    assert_eq!(self.left, None, "left twice");
                    self.left = Some(leave);
                }
                Action::Stage { stage, state, .. } => self.stages.push((stage, state)),
                Action::Signal { .. }
                | Action::KillGroup { .. }
                | Action::Log { .. }
                | Action::Report => {}
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.send(Event::Tick);
    }

    /// Lets time pass to the next deadline.
    fn reach_deadline(&mut self) {
        let due = self.supervisor.next_deadline().expect("something is due");
        self.now = self.now.max(due);
        self.send(Event::Tick);
    }

    fn run_of(&self, name: &str) -> Run {
        let id = self.units.find(name).unwrap();
        *self
            .processes
            .iter()
            .find(|(_, unit)| **unit == id)
            .unwrap_or_else(|| panic!("{name} has no process"))
            .0
    }

    fn word(&self, name: &str) -> &'static str {
        self.supervisor
            .state(self.units.find(name).unwrap())
            .unwrap()
            .word()
    }

    fn detail(&self, name: &str) -> Option<String> {
        self.supervisor
            .report()
            .into_iter()
            .find(|row| row.name == name)
            .unwrap()
            .detail
    }

    fn ready(&mut self, name: &str) {
        let run = self.run_of(name);
        self.send(Event::Notified {
            run,
            notice: Notice::Ready,
        });
    }

    fn exit(&mut self, name: &str, status: i32) {
        let run = self.run_of(name);
        self.send(Event::Exited {
            run,
            exit: Exit::Status(status),
        });
    }
}

const NOTIFY: &str =
    "[Service]\nType=notify\nExecStart=/x\nRestart=always\nRestartSec=1\nTimeoutStartSec=30\n";

fn chain_of_three() -> UnitSet {
    let after = |unit: &str| format!("[Unit]\nAfter={unit}\nX-MnemosStage=devices\n{NOTIFY}");
    unit_set(&[
        ("a.service", NOTIFY),
        ("b.service", &after("a.service")),
        ("c.service", &after("b.service")),
        (
            "t.target",
            "[Unit]\nWants=a.service b.service c.service\nAfter=c.service\n",
        ),
    ])
}

#[test]
fn units_start_in_order_as_they_become_ready() {
    let units = chain_of_three();
    let mut machine = Machine::new(&units);
    assert_eq!(machine.word("b.service"), "waiting");
    assert_eq!(
        machine.detail("c.service").as_deref(),
        Some("waits for b.service")
    );
    machine.ready("a.service");
    machine.ready("b.service");
    assert_eq!(machine.word("t.target"), "waiting");
    machine.ready("c.service");
    assert_eq!(machine.word("t.target"), "running");
    let b_stages = [
        ("devices".to_owned(), StageState::Start),
        ("devices".to_owned(), StageState::Ok),
    ];
    assert_eq!(machine.stages[..2], b_stages);
}

#[test]
fn a_failed_predecessor_holds_back_only_who_requires_it() {
    let units = unit_set(&[
        ("a.service", NOTIFY),
        (
            "soft.service",
            &format!("[Unit]\nAfter=a.service\n{NOTIFY}"),
        ),
        (
            "hard.service",
            &format!("[Unit]\nAfter=a.service\nRequires=a.service\n{NOTIFY}"),
        ),
        ("t.target", "[Unit]\nWants=soft.service hard.service\n"),
    ]);
    let mut machine = Machine::new(&units);
    machine.exit("a.service", 1);
    assert_eq!(
        (machine.word("soft.service"), machine.word("hard.service")),
        ("starting", "waiting")
    );
    machine.reach_deadline();
    machine.ready("a.service");
    assert_eq!(machine.word("hard.service"), "starting");
}

#[test]
fn ready_and_dead_at_once_still_backs_off_ever_longer() {
    let units = chain_of_three();
    let mut machine = Machine::new(&units);
    let mut waits = Vec::new();
    for _ in 0..10 {
        machine.ready("a.service");
        machine.exit("a.service", 0);
        assert_eq!(machine.word("a.service"), "backoff");
        let before = machine.now;
        let due = machine
            .supervisor
            .state(UnitId(0))
            .unwrap()
            .deadline()
            .unwrap();
        waits.push((due - before).as_millis());
        machine.now = due;
        machine.send(Event::Tick);
    }
    assert!(waits[0] >= 750 && waits[0] <= 1000, "{waits:?}");
    assert!(
        waits[4] > 8 * waits[0] && waits[9] <= 30_000 && waits[9] > 20_000,
        "{waits:?}"
    );
    // After a stable minute the next failure is the first again.
    machine.ready("a.service");
    machine.pass(STABLE);
    machine.exit("a.service", 1);
    assert!(
        machine
            .supervisor
            .state(UnitId(0))
            .unwrap()
            .deadline()
            .unwrap()
            - machine.now
            <= Duration::from_secs(1)
    );
}

#[test]
fn a_service_that_is_never_ready_is_stopped_and_tried_again() {
    let units = chain_of_three();
    let mut machine = Machine::new(&units);
    machine.pass(Duration::from_secs(30));
    assert_eq!(machine.word("a.service"), "stopping");
    machine.exit("a.service", 0);
    assert_eq!(machine.word("a.service"), "backoff");
    assert_eq!(
        machine.detail("a.service").as_deref(),
        Some("not ready in time, stopped")
    );
    assert_eq!(machine.word("b.service"), "starting");
}

#[test]
fn watchdog_pings_keep_a_service_and_silence_ends_it() {
    let units = unit_set(&[
        ("w.service", &format!("{NOTIFY}WatchdogSec=10\n")),
        ("t.target", "[Unit]\nWants=w.service\n"),
    ]);
    let mut machine = Machine::new(&units);
    machine.ready("w.service");
    for _ in 0..5 {
        machine.pass(Duration::from_secs(9));
        let run = machine.run_of("w.service");
        machine.send(Event::Notified {
            run,
            notice: Notice::Watchdog,
        });
    }
    assert_eq!(machine.word("w.service"), "running");
    machine.pass(Duration::from_secs(10));
    assert_eq!(machine.word("w.service"), "stopping");
}

#[test]
fn oneshot_runs_its_commands_in_turn() {
    let units = unit_set(&[
        (
            "o.service",
            "[Service]\nType=oneshot\nExecStart=-/one\nExecStart=/two\n",
        ),
        ("t.target", "[Unit]\nWants=o.service\nAfter=o.service\n"),
    ]);
    let mut machine = Machine::new(&units);
    machine.exit("o.service", 1);
    assert_eq!(machine.word("o.service"), "starting");
    machine.exit("o.service", 0);
    assert_eq!(
        (machine.word("o.service"), machine.word("t.target")),
        ("exited", "running")
    );
}

#[test]
fn failed_spawns_and_conditions_are_told_apart() {
    let units = chain_of_three();
    let mut machine = Machine::new(&units);
    let run = machine.run_of("a.service");
    machine.send(Event::SpawnFailed {
        run,
        error: "cannot execute /x: no such file".to_owned(),
    });
    assert_eq!(
        machine.detail("a.service").as_deref(),
        Some("cannot execute /x: no such file")
    );
    let run = machine.run_of("b.service");
    machine.send(Event::ConditionUnmet {
        run,
        reason: "this CPU lacks avx2".to_owned(),
    });
    assert_eq!(
        (machine.word("b.service"), machine.word("c.service")),
        ("skipped", "starting")
    );
    assert!(
        machine
            .stages
            .contains(&("devices".to_owned(), StageState::Skipped))
    );
}

#[test]
fn shutdown_stops_in_reverse_and_kills_who_does_not_listen() {
    let units = chain_of_three();
    let mut machine = Machine::new(&units);
    for name in ["a.service", "b.service", "c.service"] {
        machine.ready(name);
    }
    machine.send(Event::Shutdown(Leave::Reboot));
    machine.send(Event::Shutdown(Leave::PowerOff));
    let words = |machine: &Machine<'_>| {
        ["a", "b", "c"].map(|name| machine.word(&format!("{name}.service")))
    };
    assert_eq!(words(&machine), ["running", "running", "stopping"]);
    machine.exit("c.service", 0);
    assert_eq!(words(&machine), ["running", "stopping", "stopped"]);
    // b ignores SIGTERM for its ten seconds, then even SIGKILL.
    machine.reach_deadline();
    assert_eq!(words(&machine), ["running", "stopping", "stopped"]);
    machine.reach_deadline();
    assert_eq!(words(&machine), ["stopping", "stopped", "stopped"]);
    machine.exit("a.service", 0);
    assert_eq!(machine.left, Some(Leave::Reboot), "the first wish counts");
}

/// One thing that may happen, for the property tests.
#[derive(Debug, Clone)]
enum Happening {
    Pass(u64),
    Event(Event),
}

fn happening() -> impl Strategy<Value = Happening> {
    // Small numbers, so that most runs are live ones; some never existed.
    let run = (0_u64..30).prop_map(Run);
    let exit = prop_oneof![(0..3).prop_map(Exit::Status), Just(Exit::Signal(9))];
    let notice = prop_oneof![
        Just(Notice::Ready),
        Just(Notice::Watchdog),
        Just(Notice::Stopping),
        Just(Notice::Status("s".to_owned())),
        (0_u64..100).prop_map(|seconds| Notice::ExtendTimeout(Duration::from_secs(seconds))),
    ];
    prop_oneof![
        6 => (0_u64..40_000).prop_map(Happening::Pass),
        3 => run.clone().prop_map(|run| Happening::Event(Event::Executed { run })),
        6 => (run.clone(), exit).prop_map(|(run, exit)| Happening::Event(Event::Exited { run, exit })),
        6 => (run.clone(), notice).prop_map(|(run, notice)| Happening::Event(Event::Notified { run, notice })),
        2 => run.clone().prop_map(|run| Happening::Event(Event::SpawnFailed { run, error: "e".to_owned() })),
        1 => run.prop_map(|run| Happening::Event(Event::ConditionUnmet { run, reason: "r".to_owned() })),
        1 => Just(Happening::Event(Event::Shutdown(Leave::PowerOff))),
    ]
}

fn odd_units() -> UnitSet {
    unit_set(&[
        ("a.service", &format!("{NOTIFY}WatchdogSec=20\n")),
        (
            "b.service",
            "[Unit]\nAfter=a.service\n[Service]\nExecStart=/b\nRestart=on-failure\n",
        ),
        (
            "c.service",
            "[Unit]\nAfter=b.service\nRequires=b.service\n[Service]\nExecStart=/c\nRestart=no\n",
        ),
        (
            "o.service",
            "[Service]\nType=oneshot\nExecStart=/1\nExecStart=-/2\nExecStart=/3\nRestart=on-failure\n",
        ),
        (
            "p.service",
            "[Unit]\nBefore=a.service\nAfter=o.service\n[Service]\nExecStart=/p\nTimeoutStopSec=90\n",
        ),
        (
            "t.target",
            "[Unit]\nWants=a.service b.service c.service o.service p.service\nAfter=c.service\n",
        ),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// `Machine::send` asserts the rest: at most one process a unit, no start while going down, one `Leave`.
    #[test]
    fn any_sequence_keeps_the_invariants_and_ends(happenings in prop::collection::vec(happening(), 0..120)) {
        let units = odd_units();
        let mut machine = Machine::new(&units);
        for happening in happenings {
            match happening {
                Happening::Pass(ms) => machine.pass(Duration::from_millis(ms)),
                Happening::Event(event) => machine.send(event),
            }
            if machine.left.is_some() {
                return Ok(());
            }
        }
        // From wherever that led, a shutdown ends within its budget though no process ever obeys.
        let begun = machine.now;
        let already = machine.supervisor.is_going_down();
        machine.send(Event::Shutdown(Leave::Halt));
        for _ in 0..100 {
            if machine.left.is_some() {
                break;
            }
            machine.reach_deadline();
        }
        prop_assert!(machine.left.is_some());
        prop_assert!(already || machine.now - begun <= SHUTDOWN_BUDGET);
    }

    /// Whatever happened, a unit that is restarted always has a next step: it never gives up.
    #[test]
    fn restarted_units_never_give_up(happenings in prop::collection::vec(happening(), 0..120)) {
        let units = odd_units();
        let mut machine = Machine::new(&units);
        let a = units.find("a.service").unwrap();
        for happening in happenings {
            match happening {
                Happening::Event(Event::Shutdown(_) | Event::ConditionUnmet { .. }) => {}
                Happening::Pass(ms) => machine.pass(Duration::from_millis(ms)),
                Happening::Event(event) => machine.send(event),
            }
            let state = machine.supervisor.state(a).unwrap();
            let alive = state.run().is_some() || state.deadline().is_some() || *state == State::Waiting;
            prop_assert!(alive, "{:?}", state);
        }
    }
}
