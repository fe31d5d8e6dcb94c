//! The parts of the agent's status and of PID 1's report that the console shows.
//!
//! Unknown fields are ignored and most known ones may be absent: after an upgrade of the other side the
//! screen shows less, it does not go dark.

use serde::Deserialize;

/// Answer of the agent's `GET /status`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Host name.
    pub name: String,
    /// Version of MNEMOS.
    pub version: String,
    /// Nothing outlives a power cycle.
    pub ephemeral: bool,
    /// The self-test passed and the node answers requests.
    pub ready: bool,
    /// What ready still waits for, a sentence each.
    pub missing: Vec<String>,
    /// What is wrong, a sentence with a remedy each.
    pub problems: Vec<String>,
    /// Addresses other machines can reach.
    pub addresses: Vec<Address>,
    /// The admin page, one for each address.
    pub urls: Vec<String>,
    /// SHA-256 of the CA certificate.
    pub fingerprint: String,
    /// What the page asks for. Only the local socket tells it.
    pub token: String,
    /// Units as PID 1 reports them.
    pub services: Vec<Unit>,
    /// Model processes.
    pub engines: Vec<Engine>,
    /// Result of the self-test.
    pub self_test: SelfTest,
    /// The machine's memory.
    pub memory: Memory,
}

/// An address on an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Kernel name, `ens3`.
    pub interface: String,
    /// IPv4 or IPv6, without prefix length.
    pub address: String,
}

/// A model process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Engine {
    /// `starting`, `ready`, `down` or `cannot_run`.
    pub state: String,
    /// Why it is in that state.
    pub detail: Option<String>,
    /// Name of the model, once it is known.
    pub model: Option<String>,
    /// The model only proves that the node works.
    pub self_test: bool,
}

/// Result of the self-test.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SelfTest {
    /// `pending`, `running`, `passed` or `failed`.
    pub state: String,
    /// What differed.
    pub detail: Option<String>,
    /// How many prompts were checked.
    pub cases: u64,
    /// Tokens per second reading a prompt.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens per second writing an answer.
    pub decode_tokens_per_s: Option<f64>,
}

/// The machine's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// `MemTotal`.
    pub total_bytes: u64,
    /// `MemAvailable`.
    pub available_bytes: u64,
}

/// PID 1's `/run/mnemos/init/services.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InitReport {
    /// Every unit it knows.
    pub units: Vec<Unit>,
    /// What is wrong, a sentence with a remedy each.
    pub problems: Vec<String>,
}

/// A unit under PID 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Unit {
    /// `mnemos-agentd.service`.
    pub name: String,
    /// `waiting`, `starting`, `running`, `exited`, `stopping`, `backoff`, `stopped`, `skipped` or `failed`.
    pub state: String,
    /// When that state began, in milliseconds after boot.
    pub since_ms: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// What the service says of itself.
    pub status: Option<String>,
    /// What it waits for, or why it was skipped or ended.
    pub detail: Option<String>,
}
