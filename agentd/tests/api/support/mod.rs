//! What the tests share: an agent in this process on free ports, a client over real TLS, and the one
//! fake, an engine that follows a script.

pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod process;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mnemos_agentd::{Agent, Config, Limits};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

pub(crate) use client::Client;
pub(crate) use engine::ScriptedEngine;

/// Long enough that its expiry means a bug.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const MODEL: &str = "scripted";

/// A node's directories and its agent.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) agent: Agent,
    pub(crate) client: Client,
}

/// Limits short enough to be reached in a test.
pub(crate) fn limits() -> Limits {
    Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    }
}

pub(crate) fn config(directory: &Path, limits: Limits) -> Config {
    let mut config = Config::new(limits);
    config.bind = [127, 0, 0, 1].into();
    (config.https_port, config.http_port) = (0, 0);
    config.name = Some("testnode".to_owned());
    config.state_dir = directory.join("state");
    config.engines_dir = directory.join("engines");
    config.models_dir = directory.join("models");
    config.services_file = directory.join("services.json");
    config.local_socket = directory.join("run/local.sock");
    config.hostd_socket = directory.join("hostd.sock");
    config.console_uid = nix::unistd::getuid().as_raw();
    config
}

/// Writes the model's card and an empty list of services.
pub(crate) fn furnish(directory: &Path) {
    fs::create_dir_all(directory.join("engines")).unwrap();
    fs::create_dir_all(directory.join("models/selftest")).unwrap();
    fs::write(
        directory.join("services.json"),
        r#"{"units":[],"problems":[]}"#,
    )
    .unwrap();
    let card = json!({
        "name": MODEL, "self_test": true, "description": "Follows a script.", "context_tokens": 64,
        "self_test_cases": [{"prompt": "hi", "answer": "Hello", "max_tokens": 8}],
    });
    fs::write(
        directory.join("models/selftest/model.json"),
        card.to_string(),
    )
    .unwrap();
}

impl Bench {
    /// An agent without an engine.
    pub(crate) async fn start(limits: Limits) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        furnish(directory.path());
        let config = config(directory.path(), limits);
        let agent = Agent::start(config).await.unwrap();
        let client = Client::of(&agent, directory.path());
        Bench {
            directory,
            agent,
            client,
        }
    }

    /// An agent with a scripted engine, ready.
    pub(crate) async fn ready(limits: Limits) -> (Bench, ScriptedEngine) {
        let bench = Bench::start(limits).await;
        let engine = ScriptedEngine::start(&bench.socket());
        bench.wait_ready().await;
        (bench, engine)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("engines/selftest.sock")
    }

    pub(crate) async fn wait_ready(&self) {
        wait_for("the node is ready", async || {
            self.client.get("/readyz").await.status == 200
        })
        .await;
    }

    pub(crate) async fn wait_not_ready(&self) {
        wait_for("the node is not ready", async || {
            self.client.get("/readyz").await.status == 503
        })
        .await;
    }
}

/// Looks at `condition` again and again until it holds.
pub(crate) async fn wait_for<F: Future<Output = bool>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let mut ticks = interval(Duration::from_millis(20));
    let holds = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, holds)
        .await
        .unwrap_or_else(|_| panic!("still waiting until {what}"));
}
