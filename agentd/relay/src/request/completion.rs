//! The body of `/v1/completions`.

use mnemos_engine_protocol::Prompt;
use serde_json::Value;

use super::fields::Fields;
use super::sampling::{is_empty, parse_max_tokens, parse_sampling, parse_stop, refuse_unsupported};
use super::{Job, parse_delivery, parse_model, parse_object};
use crate::error::ApiError;

/// OpenAI's default for this endpoint.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Parses and checks a completion request.
///
/// # Errors
/// [`ApiError::Json`] or [`ApiError::Field`] with the first field that is not acceptable.
pub fn parse_completion(body: &[u8]) -> Result<Job, ApiError> {
    let map = parse_object(body)?;
    let fields = Fields::new(&map);
    let model = parse_model(&fields)?;
    let prompt = parse_prompt(&fields)?;
    refuse_unsupported(&fields)?;
    let one = |value: &Value| value.as_u64() == Some(1);
    fields.only_if("best_of", one, "ask once for each answer")?;
    fields.only_if("echo", is_empty, "prepend the prompt yourself")?;
    fields.only_if("suffix", is_empty, "models here continue text only")?;
    // 0 would ask for the log probability of the chosen token.
    let off = |value: &Value| value == &Value::Bool(false);
    fields.only_if("logprobs", off, "leave it out")?;
    Ok(Job {
        model,
        prompt: Prompt::Text(prompt),
        sampling: parse_sampling(&fields)?,
        stop: parse_stop(&fields)?,
        max_tokens: Some(parse_max_tokens(&fields, "max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS)),
        delivery: parse_delivery(&fields)?,
    })
}

fn parse_prompt(fields: &Fields<'_>) -> Result<String, ApiError> {
    let prompt = match fields.get("prompt") {
        Some(Value::Array(prompts)) if prompts.len() == 1 => {
            prompts.first().and_then(Value::as_str)
        }
        Some(value) => value.as_str(),
        None => return Err(fields.refuse("prompt", "is required")),
    };
    match prompt {
        Some("") => Err(fields.refuse("prompt", "must not be empty")),
        Some(prompt) => Ok(prompt.to_owned()),
        None => Err(fields.refuse(
            "prompt",
            "must be one string; token ids and several prompts are not supported",
        )),
    }
}
