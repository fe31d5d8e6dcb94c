//! What the two sides say to each other.

use serde::{Deserialize, Serialize};

/// The one request of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is loaded, how large its context is, how busy the engine is.
    Info,
    /// Generate tokens for a prompt.
    Generate(Generate),
}

/// A prompt with how to continue it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// Chosen by the caller; appears in the engine's log lines.
    pub id: String,
    /// What to continue.
    pub prompt: Prompt,
    /// How the next token is picked.
    pub sampling: Sampling,
    /// Generation ends before any of these strings would be emitted.
    pub stop: Vec<String>,
    /// Upper bound of generated tokens. `None`: up to the end of the context.
    pub max_tokens: Option<u32>,
}

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Messages, rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Raw text, tokenized as it is.
    Text(String),
}

/// One chat message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// How the next token is picked. The caller has checked the ranges.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy decoding; otherwise the softmax temperature.
    pub temperature: f64,
    /// Nucleus mass in (0, 1].
    pub top_p: f64,
    /// OpenAI's frequency penalty, -2 to 2.
    pub frequency_penalty: f32,
    /// OpenAI's presence penalty, -2 to 2.
    pub presence_penalty: f32,
}

/// What the engine answers. `Info`, `Done` and `Error` are the last frame of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Answer to [`Request::Info`].
    Info(Info),
    /// The prompt was accepted and is being read.
    Started {
        /// Length of the prompt.
        prompt_tokens: u32,
    },
    /// More text.
    Delta {
        /// Decoded text, never empty, always whole UTF-8 characters.
        text: String,
    },
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// The request failed. The engine may be unable to take others; see [`ErrorCode`].
    Error {
        /// What kind of failure.
        code: ErrorCode,
        /// One sentence for the caller, naming the limit and the value.
        message: String,
    },
}

/// What an engine serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Model name, as in `/v1/models`.
    pub model: String,
    /// Whether the model only proves that the node works.
    pub self_test: bool,
    /// Prompt and answer together, in tokens.
    pub context_tokens: u32,
    /// Engine name and version, for example `mistral.rs 0.8.1 (cpu, x86-64-v3)`.
    pub engine: String,
    /// Size of the model file.
    pub model_bytes: u64,
    /// Time from process start to loaded weights.
    pub load_ms: u64,
    /// Requests being worked on now.
    pub running: u32,
    /// Requests waiting for a slot.
    pub waiting: u32,
    /// Threads used for matrix products.
    pub threads: u32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// End-of-sequence token or stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// What an answer cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Length of the answer.
    pub completion_tokens: u32,
    /// Time to read the prompt.
    pub prefill_ms: f64,
    /// Time from the first to the last generated token.
    pub decode_ms: f64,
}

/// What kind of failure an [`Event::Error`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame or a value in it is not acceptable.
    InvalidRequest,
    /// The prompt, or prompt and `max_tokens` together, exceed the context.
    ContextLengthExceeded,
    /// Too many requests wait already; try again later.
    Busy,
    /// No token within the deadline; the engine restarts itself.
    Timeout,
    /// The engine failed; it restarts itself.
    Internal,
}
