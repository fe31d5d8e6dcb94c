//! Request bodies, parsed once into a [`Job`]. Lenient where it is harmless: a field nobody knows is
//! ignored, as OpenAI's clients send new ones all the time. Strict where it matters: a known field that
//! this node cannot honour is refused by name, never dropped in silence.

mod chat;
mod completion;
mod fields;
mod sampling;

use mnemos_engine_protocol::{Prompt, Sampling};
use serde_json::{Map, Value};

pub use chat::parse_chat;
pub use completion::parse_completion;

use crate::error::ApiError;
use fields::Fields;

/// A checked request.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which model is to answer.
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// How to pick tokens, in range.
    pub sampling: Sampling,
    /// Where to stop.
    pub stop: Vec<String>,
    /// Upper bound of generated tokens. `None`: up to the end of the context.
    pub max_tokens: Option<u32>,
    /// How the client wants the answer.
    pub delivery: Delivery,
}

/// How the client wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One JSON object.
    Whole,
    /// Server-sent events.
    Stream {
        /// Whether a last chunk tells the token counts.
        include_usage: bool,
    },
}

/// The body as a JSON object.
fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::Json("expected an object".to_owned())),
        Err(error) => Err(ApiError::Json(error.to_string())),
    }
}

fn parse_model(fields: &Fields<'_>) -> Result<String, ApiError> {
    match fields.string("model")? {
        None | Some("") => Err(ApiError::field(
            "model",
            "'model' is required; see /v1/models",
        )),
        Some(model) => Ok(model.to_owned()),
    }
}

fn parse_delivery(fields: &Fields<'_>) -> Result<Delivery, ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let options = fields.object("stream_options")?;
    match (stream, options) {
        (true, None) => Ok(Delivery::Stream {
            include_usage: false,
        }),
        (true, Some(options)) => {
            let include_usage = options.boolean("include_usage")?.unwrap_or(false);
            Ok(Delivery::Stream { include_usage })
        }
        (false, None) => Ok(Delivery::Whole),
        (false, Some(_)) => Err(ApiError::field(
            "stream_options",
            "'stream_options' needs 'stream': true",
        )),
    }
}

#[cfg(test)]
mod tests;
