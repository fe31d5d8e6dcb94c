//! The engines this node knows, and what of that the model API may offer. No I/O here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mnemos_engine_protocol::Info;
use mnemos_relay::{Catalog, Model, fingerprint};

use super::card::{Card, Case};
use super::self_test::SelfTest;
use super::watch::MAX_ENGINES;

/// An engine that does not answer is given up after this long. Longer than a step on a slow machine.
const SILENCE: Duration = Duration::from_secs(30);

/// One engine process, running or not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Engine {
    pub(crate) card: Option<Card>,
    pub(crate) attachment: Attachment,
    /// When its model was first served, for `created`.
    pub(crate) created_unix: u64,
}

/// Whether the agent can reach it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attachment {
    /// It never answered since the agent started.
    Unseen,
    /// It answers.
    Ready {
        info: Info,
        socket: PathBuf,
        last_answer: Duration,
    },
    /// It answered before and does no more.
    Lost { reason: String },
}

/// What a look at an engine's socket brought.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probe {
    /// No socket, or nobody listens on it.
    Absent,
    /// Somebody listens but did not answer in time or not sensibly.
    Silent { reason: String },
    /// The engine's answer.
    Answered { info: Info, socket: PathBuf },
}

impl Attachment {
    /// The state after `probe` at `now`, a time since some fixed point.
    pub(crate) fn after(self, probe: Probe, now: Duration) -> Attachment {
        match (self, probe) {
            (_, Probe::Answered { info, socket }) => Attachment::Ready {
                info,
                socket,
                last_answer: now,
            },
            (Attachment::Unseen, Probe::Absent | Probe::Silent { .. }) => Attachment::Unseen,
            (lost @ Attachment::Lost { .. }, Probe::Absent | Probe::Silent { .. }) => lost,
            (Attachment::Ready { .. }, Probe::Absent) => Attachment::Lost {
                reason: "the engine process ended".to_owned(),
            },
            (Attachment::Ready { last_answer, .. }, Probe::Silent { reason })
                if now.saturating_sub(last_answer) > SILENCE =>
            {
                Attachment::Lost { reason }
            }
            (ready @ Attachment::Ready { .. }, Probe::Silent { .. }) => ready,
        }
    }

    pub(crate) fn info(&self) -> Option<&Info> {
        match self {
            Attachment::Ready { info, .. } => Some(info),
            Attachment::Unseen | Attachment::Lost { .. } => None,
        }
    }

    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        match self {
            Attachment::Ready { socket, .. } => Some(socket),
            Attachment::Unseen | Attachment::Lost { .. } => None,
        }
    }
}

/// All engines by instance name, and the self-test's state. Shared by watchers and handlers.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// Why no engine can run on this machine, if so.
    cannot_serve: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    engines: BTreeMap<String, Engine>,
    self_test: SelfTest,
}

/// What the self-test is to be run on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proof {
    pub(crate) instance: String,
    pub(crate) socket: PathBuf,
    pub(crate) cases: Vec<Case>,
}

impl Registry {
    /// A registry of a machine on which no engine can run for the given reason, if there is one.
    pub(crate) fn new(cannot_serve: Option<String>) -> Registry {
        Registry {
            inner: Mutex::default(),
            cannot_serve,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all engines.
    pub(crate) fn engines(&self) -> BTreeMap<String, Engine> {
        self.lock().engines.clone()
    }

    /// The self-test's state.
    pub(crate) fn self_test(&self) -> SelfTest {
        self.lock().self_test.clone()
    }

    pub(crate) fn set_self_test(&self, state: SelfTest) {
        self.lock().self_test = state;
    }

    /// Makes `instance` known, with its card.
    pub(crate) fn announce(&self, instance: &str, card: Option<Card>, now_unix: u64) {
        let engine = Engine {
            card,
            attachment: Attachment::Unseen,
            created_unix: now_unix,
        };
        let mut inner = self.lock();
        // Sockets are named by the engines' user: new names must not fill the memory.
        if inner.engines.len() < MAX_ENGINES {
            inner.engines.entry(instance.to_owned()).or_insert(engine);
        }
    }

    /// Whether `instance` is known.
    pub(crate) fn knows(&self, instance: &str) -> bool {
        self.lock().engines.contains_key(instance)
    }

    /// Takes in what a probe brought. `Some` when a self-test engine has just come up: prove it.
    /// When the engine of a running or past self-test goes away, the proof goes with it.
    pub(crate) fn observe(&self, instance: &str, probe: Probe, now: Duration) -> Option<Proof> {
        let mut inner = self.lock();
        let engine = inner.engines.get_mut(instance)?;
        let was_ready = engine.attachment.info().is_some();
        let before = std::mem::replace(&mut engine.attachment, Attachment::Unseen);
        engine.attachment = before.after(probe, now);
        let is_ready = engine.attachment.info().is_some();
        if was_ready != is_ready {
            let state = if is_ready { "ready" } else { "lost" };
            tracing::info!(instance, state, "engine");
        }
        let is_self_test = engine.card.as_ref().is_some_and(|card| card.self_test);
        if !is_self_test || was_ready == is_ready {
            return None;
        }
        let proof = engine.attachment.socket().map(|socket| Proof {
            instance: instance.to_owned(),
            socket: socket.clone(),
            cases: engine
                .card
                .as_ref()
                .map(|card| card.self_test_cases.clone())
                .unwrap_or_default(),
        });
        inner.self_test = match proof {
            Some(_) => SelfTest::Running,
            None => SelfTest::Pending,
        };
        proof
    }
}

impl Catalog for Registry {
    fn models(&self) -> Vec<Model> {
        let engines = self.engines();
        engines
            .values()
            .filter_map(|engine| model(engine, self.cannot_serve.clone()))
            .collect()
    }
}

/// The model of an engine, once its name is known from the card or from the engine.
fn model(engine: &Engine, cannot_serve: Option<String>) -> Option<Model> {
    let card = engine.card.as_ref();
    let info = engine.attachment.info();
    let name = info
        .map(|info| &info.model)
        .or(card.map(|card| &card.name))?;
    Some(Model {
        name: name.clone(),
        description: card.and_then(|card| card.description.clone()),
        self_test: info.map_or(card.is_some_and(|card| card.self_test), |info| {
            info.self_test
        }),
        context_tokens: info
            .map(|info| info.context_tokens)
            .or(card.and_then(|card| card.context_tokens)),
        created_unix: engine.created_unix,
        socket: engine.attachment.socket().cloned(),
        down_reason: cannot_serve,
        fingerprint: info.map(fingerprint),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            model: "m".into(),
            self_test: true,
            context_tokens: 64,
            engine: "scripted".into(),
            model_bytes: 1,
            load_ms: 1,
            running: 0,
            waiting: 0,
            threads: 1,
        }
    }

    fn answered() -> Probe {
        Probe::Answered {
            info: info(),
            socket: "/s".into(),
        }
    }

    fn registry() -> Registry {
        let case = Case {
            prompt: "p".into(),
            answer: "a".into(),
            max_tokens: 3,
        };
        let card = Card {
            name: "m".into(),
            self_test: true,
            description: None,
            context_tokens: Some(64),
            self_test_cases: vec![case],
        };
        let registry = Registry::default();
        registry.announce("i", Some(card), 1);
        registry
    }

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn an_engine_is_proven_once_each_time_it_comes_up() {
        let registry = registry();
        assert_eq!(registry.observe("i", Probe::Absent, T0), None);
        assert!(registry.observe("i", answered(), T0).is_some());
        assert_eq!(registry.observe("i", answered(), T0), None);
        registry.set_self_test(SelfTest::Failed {
            detail: "x".into(),
            cases: 1,
        });
        assert_eq!(registry.observe("i", Probe::Absent, T0), None);
        assert_eq!(registry.self_test(), SelfTest::Pending);
        assert!(registry.observe("i", answered(), T0).is_some());
        assert_eq!(registry.self_test(), SelfTest::Running);
    }

    #[test]
    fn a_busy_engine_is_kept_and_a_silent_one_given_up() {
        let silent = || Probe::Silent {
            reason: "no answer".into(),
        };
        let ready = Attachment::Unseen.after(answered(), T0);
        let kept = ready.after(silent(), T0 + SILENCE);
        assert!(kept.info().is_some());
        let lost = kept.after(silent(), T0 + SILENCE + Duration::from_secs(1));
        assert_eq!(
            lost,
            Attachment::Lost {
                reason: "no answer".into()
            }
        );
    }

    #[test]
    fn a_model_stays_listed_while_its_engine_is_away() {
        let registry = registry();
        let names = || {
            registry
                .models()
                .into_iter()
                .map(|m| (m.name, m.socket.is_some()))
        };
        assert_eq!(names().collect::<Vec<_>>(), [("m".to_owned(), false)]);
        registry.observe("i", answered(), T0);
        assert_eq!(names().collect::<Vec<_>>(), [("m".to_owned(), true)]);
        registry.observe("i", Probe::Absent, T0);
        assert_eq!(names().collect::<Vec<_>>(), [("m".to_owned(), false)]);
    }
}
