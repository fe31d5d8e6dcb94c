//! What this node serves, as the edge needs to know it.

use std::path::PathBuf;

use mnemos_engine_protocol::Info;
use ring::digest::{SHA256, digest};

/// Names the models of the node. Answers at once, never waits for an engine.
pub trait Catalog: Send + Sync + 'static {
    /// Every model the node has, serving or not, in a stable order.
    fn models(&self) -> Vec<Model>;
}

/// A model of this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// As in `/v1/models`.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Whether the model only proves that the node works.
    pub self_test: bool,
    /// Prompt and answer together, in tokens, once known.
    pub context_tokens: Option<u32>,
    /// When the node first knew it, in seconds since 1970.
    pub created_unix: u64,
    /// Where its engine takes requests. `None` while no engine serves it.
    pub socket: Option<PathBuf>,
    /// Why there is no socket, where more is known than that the engine is not running.
    pub down_reason: Option<String>,
    /// Changes with engine or model file, as OpenAI's `system_fingerprint`.
    pub fingerprint: Option<String>,
}

/// The `system_fingerprint` of an engine with a model.
#[must_use]
pub fn fingerprint(info: &Info) -> String {
    let text = format!("{}\n{}\n{}", info.engine, info.model, info.model_bytes);
    let digest = digest(&SHA256, text.as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .take(5)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("fp_{hex}")
}
