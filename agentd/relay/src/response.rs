//! The JSON that answers have on the wire, for both endpoints, whole and in pieces.

use mnemos_engine_protocol::{FinishReason, Usage};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

use crate::catalog::Model;

/// Which of OpenAI's two shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
}

impl Endpoint {
    fn id_prefix(self) -> &'static str {
        match self {
            Endpoint::Chat => "chatcmpl-",
            Endpoint::Completions => "cmpl-",
        }
    }

    /// The field that holds the prompt, for refusals.
    pub(crate) fn prompt_param(self) -> &'static str {
        match self {
            Endpoint::Chat => "messages",
            Endpoint::Completions => "prompt",
        }
    }
}

/// What all pieces of one answer share.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: String,
    created_unix: u64,
    model: String,
    fingerprint: Option<String>,
}

impl Head {
    pub(crate) fn new(endpoint: Endpoint, model: &Model, now_unix: u64) -> Head {
        Head {
            endpoint,
            id: format!("{}{}", endpoint.id_prefix(), random_hex()),
            created_unix: now_unix,
            model: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
        }
    }

    fn object(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created_unix,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// The whole answer.
    pub(crate) fn whole(&self, text: &str, reason: FinishReason, usage: &Usage) -> Value {
        let reason = reason_name(reason);
        let mut value = match self.endpoint {
            Endpoint::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                let choice = json!({
                    "index": 0, "message": message, "logprobs": null, "finish_reason": reason,
                });
                self.object("chat.completion", json!([choice]))
            }
            Endpoint::Completions => {
                self.object("text_completion", json!([text_choice(text, Some(reason))]))
            }
        };
        insert_usage(&mut value, usage);
        value
    }

    /// The first piece, where the endpoint has one without text.
    pub(crate) fn first_chunk(&self) -> Option<Value> {
        match self.endpoint {
            Endpoint::Chat => {
                Some(self.chat_chunk(json!({"role": "assistant", "content": ""}), None))
            }
            Endpoint::Completions => None,
        }
    }

    /// A piece of text.
    pub(crate) fn text_chunk(&self, text: &str) -> Value {
        match self.endpoint {
            Endpoint::Chat => self.chat_chunk(json!({"content": text}), None),
            Endpoint::Completions => {
                self.object("text_completion", json!([text_choice(text, None)]))
            }
        }
    }

    /// The piece that says why the answer ended.
    pub(crate) fn last_chunk(&self, reason: FinishReason) -> Value {
        let reason = reason_name(reason);
        match self.endpoint {
            Endpoint::Chat => self.chat_chunk(json!({}), Some(reason)),
            Endpoint::Completions => {
                self.object("text_completion", json!([text_choice("", Some(reason))]))
            }
        }
    }

    /// The piece after the last that tells the token counts, without choices.
    pub(crate) fn usage_chunk(&self, usage: &Usage) -> Value {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completions => "text_completion",
        };
        let mut value = self.object(object, json!([]));
        insert_usage(&mut value, usage);
        value
    }

    fn chat_chunk(&self, delta: Value, reason: Option<&str>) -> Value {
        let choice = json!({
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason,
        });
        self.object("chat.completion.chunk", json!([choice]))
    }
}

fn text_choice(text: &str, reason: Option<&str>) -> Value {
    json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason})
}

fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// `usage` is OpenAI's; `timings` has the names of llama.cpp's server.
fn insert_usage(value: &mut Value, usage: &Usage) {
    let (prompt, generated) = (usage.prompt_tokens, usage.completion_tokens);
    value["usage"] = json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": u64::from(prompt) + u64::from(generated),
    });
    // The first token comes out of the prefill.
    let decoded = generated.saturating_sub(1);
    value["timings"] = json!({
        "prompt_n": prompt,
        "prompt_ms": usage.prefill_ms,
        "prompt_per_second": per_second(prompt, usage.prefill_ms),
        "predicted_n": generated,
        "predicted_ms": usage.decode_ms,
        "predicted_per_second": per_second(decoded, usage.decode_ms),
    });
}

/// Tokens per second, or `None` when the time is too short to say.
pub(crate) fn per_second(tokens: u32, ms: f64) -> Option<f64> {
    (ms > 0.0 && tokens > 0).then(|| f64::from(tokens) * 1e3 / ms)
}

/// The entry of `/v1/models`.
pub(crate) fn model_entry(model: &Model) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created_unix,
        "owned_by": "mnemos",
        "max_model_len": model.context_tokens,
        "mnemos": {
            "state": if model.socket.is_some() { "ready" } else { "down" },
            "self_test": model.self_test,
            "description": model.description,
        },
    })
}

fn random_hex() -> String {
    let mut bytes = [0u8; 12];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::warn!("no random bytes for a request id");
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
