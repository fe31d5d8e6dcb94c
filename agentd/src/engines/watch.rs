//! Finds engines by their sockets, asks each what it serves, and proves the self-test engine.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mnemos_relay::{EngineError, chain, info};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::card::Card;
use super::registry::{Probe, Proof, Registry};
use super::self_test::{self, SelfTest, Verdict};
use crate::config::Config;

/// How often the sockets are looked at. A look costs a directory read and one small exchange each.
const LOOK: Duration = Duration::from_millis(500);
/// More engines than this are not watched: no machine holds so many models.
pub(crate) const MAX_ENGINES: usize = 64;

/// Watches until the task is dropped. A probe that hangs delays nobody but itself.
pub(crate) async fn watch(registry: Arc<Registry>, config: Config) {
    let origin = Instant::now();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probes = JoinSet::new();
    let mut probing = BTreeSet::new();
    let mut proofs = JoinSet::new();
    let mut again = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for instance in instances(&config) {
                    announce(&registry, &config, &instance);
                    if probing.insert(instance.clone()) {
                        probes.spawn(probe(config.clone(), instance));
                    }
                }
                if let Some(proof) = again.take() {
                    proofs.spawn(prove(proof, config.limits.self_test_event));
                }
            }
            Some(Ok((instance, probe))) = probes.join_next() => {
                probing.remove(&instance);
                if let Some(proof) = registry.observe(&instance, probe, origin.elapsed()) {
                    proofs.abort_all();
                    proofs.spawn(prove(proof, config.limits.self_test_event));
                }
            }
            Some(Ok((proof, verdict))) = proofs.join_next() => {
                again = settle(&registry, proof, verdict);
            }
        }
    }
}

/// A verdict counts unless its engine has gone meanwhile. `Some`: run the proof again.
fn settle(registry: &Registry, proof: Proof, verdict: Verdict) -> Option<Proof> {
    if registry.self_test() != SelfTest::Running {
        return None;
    }
    match verdict {
        Verdict::Settled(state) => {
            tracing::info!(?state, "self-test");
            registry.set_self_test(state);
            None
        }
        Verdict::Interrupted(reason) => {
            tracing::warn!("self-test interrupted: {reason}");
            Some(proof)
        }
    }
}

async fn prove(proof: Proof, event_deadline: Duration) -> (Proof, Verdict) {
    tracing::info!(
        instance = proof.instance,
        cases = proof.cases.len(),
        "self-test starts"
    );
    let verdict = self_test::run(&proof, event_deadline).await;
    (proof, verdict)
}

/// Instances that should be there (a model directory with a card) or are (a socket).
fn instances(config: &Config) -> BTreeSet<String> {
    let models = names(&config.models_dir)
        .filter(|name| config.models_dir.join(name).join("model.json").exists());
    let sockets = names(&config.engines_dir)
        .filter_map(|name| name.strip_suffix(".sock").map(ToOwned::to_owned));
    models.chain(sockets).take(MAX_ENGINES).collect()
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn announce(registry: &Registry, config: &Config, instance: &str) {
    if registry.knows(instance) {
        return;
    }
    let card = Card::read(&config.models_dir.join(instance)).unwrap_or_else(|error| {
        tracing::warn!(instance, "{}", chain(&error));
        None
    });
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    registry.announce(instance, card, now);
}

async fn probe(config: Config, instance: String) -> (String, Probe) {
    let socket = config.engines_dir.join(format!("{instance}.sock"));
    let probe = match timeout(config.limits.engine_info, info(&socket)).await {
        Ok(Ok(info)) => Probe::Answered { info, socket },
        Ok(Err(EngineError::Connect { source, .. })) if is_absent(&source) => Probe::Absent,
        Ok(Err(error)) => Probe::Silent {
            reason: chain(&error),
        },
        Err(_) => Probe::Silent {
            reason: "the engine does not answer".to_owned(),
        },
    };
    (instance, probe)
}

/// No socket, or the process that made it has ended. Anything else (a full backlog) may pass.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
