//! What the page, the console and `/readyz` say of the node. Pure: everything comes in as data.

use mnemos_engine_protocol::Info;
use serde::Serialize;

use crate::addresses::{Address, url};
use crate::engines::{Attachment, Engine, SelfTest};
use crate::machine::{Cpu, Memory, uptime_s};
use crate::node::Node;
use crate::services::{Services, Unit, UnitState};

/// The whole status, as `GET /api/v1/status` answers it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) uptime_s: u64,
    pub(crate) time: String,
    /// Whether everything is forgotten at power-off. Always so until a node can be claimed.
    pub(crate) ephemeral: bool,
    pub(crate) ready: bool,
    /// What stands between the node and ready, a sentence each.
    pub(crate) missing: Vec<String>,
    /// What somebody should look at, a sentence each with the remedy.
    pub(crate) problems: Vec<String>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) urls: Vec<String>,
    pub(crate) fingerprint: String,
    pub(crate) services: Vec<Unit>,
    pub(crate) engines: Vec<EngineStatus>,
    pub(crate) self_test: SelfTestStatus,
    pub(crate) memory: Memory,
    pub(crate) cpu: Cpu,
}

/// One engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EngineStatus {
    pub(crate) instance: String,
    pub(crate) state: EngineState,
    pub(crate) detail: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) self_test: bool,
    pub(crate) context_tokens: Option<u32>,
    pub(crate) model_bytes: Option<u64>,
    pub(crate) load_ms: Option<u64>,
    pub(crate) engine: Option<String>,
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) threads: Option<u32>,
}

/// Whether an engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineState {
    Starting,
    Ready,
    Down,
    CannotRun,
}

/// The proof that the node works.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SelfTestStatus {
    pub(crate) state: &'static str,
    pub(crate) detail: Option<String>,
    pub(crate) cases: usize,
    pub(crate) prefill_tokens_per_s: Option<f64>,
    pub(crate) decode_tokens_per_s: Option<f64>,
}

/// The status of `node` now.
pub(crate) fn of(node: &Node, now: String) -> Status {
    let proc_dir = &node.config.proc_dir;
    let services = Services::read(&node.config.services_file);
    let addresses = node.addresses();
    let engines: Vec<EngineStatus> = node
        .registry
        .engines()
        .iter()
        .map(|(instance, engine)| engine_status(instance, engine, &services, &node.cpu))
        .collect();
    let self_test = self_test_status(&node.registry.self_test());
    let missing = missing(&node.cpu, &engines, &self_test);
    Status {
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: uptime_s(proc_dir),
        time: now,
        ephemeral: true,
        ready: missing.is_empty(),
        missing,
        problems: problems(&node.cpu, &services),
        urls: addresses
            .iter()
            .map(|a| url(a.address, node.https_port))
            .collect(),
        addresses,
        fingerprint: node.identity.authority().fingerprint(),
        services: services.units,
        engines,
        self_test,
        memory: Memory::read(proc_dir),
        cpu: node.cpu.clone(),
    }
}

/// One line for PID 1's list of units.
pub(crate) fn line(status: &Status) -> String {
    if let Some(missing) = status.missing.first() {
        return format!("not ready: {missing}");
    }
    let models: Vec<&str> = status
        .engines
        .iter()
        .filter_map(|engine| engine.model.as_deref())
        .collect();
    format!("ready, serving {}", models.join(", "))
}

fn engine_status(instance: &str, engine: &Engine, services: &Services, cpu: &Cpu) -> EngineStatus {
    let unit = services.unit(&format!("mnemos-neuron@{instance}.service"));
    let (state, detail) = engine_state(&engine.attachment, unit, cpu);
    let card = engine.card.as_ref();
    let info = engine.attachment.info();
    let of_info = |read: fn(&Info) -> u32| info.map_or(0, read);
    EngineStatus {
        instance: instance.to_owned(),
        state,
        detail,
        model: info
            .map(|info| info.model.clone())
            .or(card.map(|card| card.name.clone())),
        self_test: info.map_or(card.is_some_and(|card| card.self_test), |info| {
            info.self_test
        }),
        context_tokens: info
            .map(|info| info.context_tokens)
            .or(card.and_then(|card| card.context_tokens)),
        model_bytes: info.map(|info| info.model_bytes),
        load_ms: info.map(|info| info.load_ms),
        engine: info.map(|info| info.engine.clone()),
        running: of_info(|info| info.running),
        waiting: of_info(|info| info.waiting),
        threads: info.map(|info| info.threads),
    }
}

/// The socket tells whether an engine serves; PID 1's unit and the processor tell why it does not.
fn engine_state(
    attachment: &Attachment,
    unit: Option<&Unit>,
    cpu: &Cpu,
) -> (EngineState, Option<String>) {
    if let Attachment::Ready { .. } = attachment {
        return (EngineState::Ready, None);
    }
    if let Some(problem) = cpu.problem() {
        return (EngineState::CannotRun, Some(problem));
    }
    let detail = unit.and_then(|unit| unit.detail.clone().or(unit.status.clone()));
    let lost = match attachment {
        Attachment::Lost { reason } => Some(reason.clone()),
        Attachment::Ready { .. } | Attachment::Unseen => None,
    };
    match (unit.map(|unit| unit.state), lost) {
        (Some(UnitState::Skipped), lost) => (EngineState::CannotRun, detail.or(lost)),
        (Some(UnitState::Waiting | UnitState::Starting | UnitState::Running), lost) => {
            (EngineState::Starting, detail.or(lost))
        }
        (
            Some(
                UnitState::Exited
                | UnitState::Stopping
                | UnitState::Backoff
                | UnitState::Stopped
                | UnitState::Failed,
            ),
            lost,
        ) => (EngineState::Down, detail.or(lost)),
        (None, Some(lost)) => (EngineState::Down, Some(lost)),
        (None, None) => (EngineState::Starting, None),
    }
}

fn self_test_status(state: &SelfTest) -> SelfTestStatus {
    let empty = SelfTestStatus {
        state: "pending",
        detail: None,
        cases: 0,
        prefill_tokens_per_s: None,
        decode_tokens_per_s: None,
    };
    match state {
        SelfTest::Pending => empty,
        SelfTest::Running => SelfTestStatus {
            state: "running",
            ..empty
        },
        SelfTest::Failed { detail, cases } => SelfTestStatus {
            state: "failed",
            detail: Some(detail.clone()),
            cases: *cases,
            ..empty
        },
        SelfTest::Passed(passed) => SelfTestStatus {
            state: "passed",
            detail: None,
            cases: passed.cases,
            prefill_tokens_per_s: passed.prefill_tokens_per_s,
            decode_tokens_per_s: passed.decode_tokens_per_s,
        },
    }
}

/// What stands between the node and ready. Empty only after the self-test passed.
fn missing(cpu: &Cpu, engines: &[EngineStatus], self_test: &SelfTestStatus) -> Vec<String> {
    if let Some(problem) = cpu.problem() {
        return vec![problem];
    }
    let mut missing: Vec<String> = engines
        .iter()
        .filter_map(|engine| {
            let state = match engine.state {
                EngineState::Ready => return None,
                EngineState::Starting => "is starting",
                EngineState::Down => "is down",
                EngineState::CannotRun => "cannot run",
            };
            let detail = engine
                .detail
                .as_ref()
                .map(|d| format!(": {d}"))
                .unwrap_or_default();
            engine
                .self_test
                .then(|| format!("engine {} {state}{detail}", engine.instance))
        })
        .collect();
    match (self_test.state, &self_test.detail) {
        ("passed", _) => {}
        ("failed", Some(detail)) => missing.push(format!("the self-test failed: {detail}")),
        ("running", _) => missing.push("the self-test is running".to_owned()),
        _ => missing.push("the self-test has not run: no self-test engine is up".to_owned()),
    }
    missing
}

fn problems(cpu: &Cpu, services: &Services) -> Vec<String> {
    let mut problems: Vec<String> = cpu.problem().into_iter().collect();
    problems.extend(services.problems.iter().cloned());
    problems.extend(services.units.iter().filter_map(Unit::problem));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Card;

    fn cpu(x86_64_v3: bool) -> Cpu {
        let lacks = if x86_64_v3 { vec![] } else { vec!["avx2"] };
        Cpu {
            model: "X".into(),
            threads: 1,
            x86_64_v3,
            lacks,
        }
    }

    fn unit(state: UnitState, detail: Option<&str>) -> Unit {
        let text = format!(
            "{{\"name\":\"mnemos-neuron@selftest.service\",\"state\":{}}}",
            serde_json::to_string(&state).unwrap(),
        );
        let mut unit: Unit = serde_json::from_str(&text).unwrap();
        unit.detail = detail.map(ToOwned::to_owned);
        unit
    }

    #[test]
    fn why_an_engine_is_not_ready() {
        let unseen = Attachment::Unseen;
        let lost = Attachment::Lost {
            reason: "ended".into(),
        };
        let state = |attachment: &Attachment, unit: Option<&Unit>| {
            engine_state(attachment, unit, &cpu(true))
        };
        assert_eq!(state(&unseen, None), (EngineState::Starting, None));
        assert_eq!(
            state(&lost, None),
            (EngineState::Down, Some("ended".into()))
        );
        let skipped = unit(UnitState::Skipped, Some("no avx2"));
        assert_eq!(
            state(&unseen, Some(&skipped)),
            (EngineState::CannotRun, Some("no avx2".into()))
        );
        let backoff = unit(UnitState::Backoff, None);
        assert_eq!(
            state(&lost, Some(&backoff)),
            (EngineState::Down, Some("ended".into()))
        );
        assert_eq!(
            engine_state(&unseen, None, &cpu(false)).0,
            EngineState::CannotRun
        );
    }

    #[test]
    fn an_old_processor_is_the_one_thing_that_is_missing() {
        let status = self_test_status(&SelfTest::Pending);
        let missing = missing(&cpu(false), &[], &status);
        assert_eq!(missing.len(), 1);
        assert!(missing[0].contains("lacks avx2"), "{missing:?}");
    }

    #[test]
    fn ready_needs_the_passed_self_test_and_its_engine() {
        let passed = crate::engines::SelfTest::Passed(crate::engines::Passed {
            cases: 2,
            prefill_tokens_per_s: None,
            decode_tokens_per_s: None,
        });
        let passed = self_test_status(&passed);
        assert!(missing(&cpu(true), &[], &passed).is_empty());
        let running = self_test_status(&SelfTest::Running);
        assert_eq!(
            missing(&cpu(true), &[], &running),
            ["the self-test is running"]
        );
        let card: Card = serde_json::from_str(r#"{"name":"m","self_test":true}"#).unwrap();
        let engine = Engine {
            card: Some(card),
            attachment: Attachment::Unseen,
            created_unix: 0,
        };
        let engine = engine_status("selftest", &engine, &Services::default(), &cpu(true));
        assert_eq!(
            missing(&cpu(true), &[engine], &passed),
            ["engine selftest is starting"]
        );
    }
}
