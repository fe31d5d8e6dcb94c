//! The body of `/v1/chat/completions`.

use mnemos_engine_protocol::{Message, Prompt, Role};
use serde_json::Value;

use super::fields::Fields;
use super::sampling::{is_empty, parse_max_tokens, parse_sampling, parse_stop, refuse_unsupported};
use super::{Job, parse_delivery, parse_model, parse_object};
use crate::error::ApiError;

/// Parses and checks a chat request.
///
/// # Errors
/// [`ApiError::Json`] or [`ApiError::Field`] with the first field that is not acceptable.
pub fn parse_chat(body: &[u8]) -> Result<Job, ApiError> {
    let map = parse_object(body)?;
    let fields = Fields::new(&map);
    let model = parse_model(&fields)?;
    let messages = parse_messages(&fields)?;
    refuse_unsupported(&fields)?;
    refuse_unsupported_in_chat(&fields)?;
    Ok(Job {
        model,
        prompt: Prompt::Chat(messages),
        sampling: parse_sampling(&fields)?,
        stop: parse_stop(&fields)?,
        max_tokens: parse_chat_max_tokens(&fields)?,
        delivery: parse_delivery(&fields)?,
    })
}

fn parse_chat_max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, ApiError> {
    let old = parse_max_tokens(fields, "max_tokens")?;
    let new = parse_max_tokens(fields, "max_completion_tokens")?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(fields.refuse(
            "max_tokens",
            "contradicts 'max_completion_tokens'; send one of them",
        )),
        (old, new) => Ok(new.or(old)),
    }
}

fn parse_messages(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let messages = match fields.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => return Err(fields.refuse("messages", "must not be empty")),
        Some(_) => return Err(fields.refuse("messages", "must be an array of messages")),
        None => return Err(fields.refuse("messages", "is required")),
    };
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| parse_message(index, message))
        .collect()
}

fn parse_message(index: usize, message: &Value) -> Result<Message, ApiError> {
    let Value::Object(map) = message else {
        let param = format!("messages[{index}]");
        let message = format!("'{param}' must be an object with 'role' and 'content'");
        return Err(ApiError::field(param, message));
    };
    let fields = Fields::element(map, "messages", index);
    for name in ["tool_calls", "function_call", "audio"] {
        fields.only_if(name, is_empty, "only text messages are")?;
    }
    Ok(Message {
        role: parse_role(&fields)?,
        content: parse_content(&fields)?,
    })
}

fn parse_role(fields: &Fields<'_>) -> Result<Role, ApiError> {
    match fields.string("role")? {
        // OpenAI's newer word for the same.
        Some("system" | "developer") => Ok(Role::System),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool" | "function") => Err(fields.refuse(
            "role",
            "of a tool is not supported: this node offers no tools yet",
        )),
        Some(_) => Err(fields.refuse("role", "must be system, developer, user or assistant")),
        None => Err(fields.refuse("role", "is required")),
    }
}

/// A string, or an array of text parts, which are joined.
fn parse_content(fields: &Fields<'_>) -> Result<String, ApiError> {
    match fields.get("content") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) if !parts.is_empty() => {
            let name = fields.name("content");
            parts
                .iter()
                .enumerate()
                .map(|(index, part)| parse_part(&name, index, part))
                .collect()
        }
        Some(_) => Err(fields.refuse("content", "must be a string or an array of text parts")),
        None => Err(fields.refuse("content", "is required")),
    }
}

fn parse_part(content: &str, index: usize, part: &Value) -> Result<String, ApiError> {
    let Value::Object(map) = part else {
        let param = format!("{content}[{index}]");
        let message = format!("'{param}' must be an object with 'type' and 'text'");
        return Err(ApiError::field(param, message));
    };
    let fields = Fields::element(map, content, index);
    match fields.string("type")? {
        Some("text") => {
            let text = fields.string("text")?;
            text.map(ToOwned::to_owned)
                .ok_or_else(|| fields.refuse("text", "is required"))
        }
        Some(_) => Err(fields.refuse("type", "must be 'text': this node's models read text only")),
        None => Err(fields.refuse("type", "is required")),
    }
}

fn refuse_unsupported_in_chat(fields: &Fields<'_>) -> Result<(), ApiError> {
    fields.only_if("logprobs", is_empty, "leave it out")?;
    fields.only_if("top_logprobs", is_empty, "leave it out")?;
    fields.only_if("tools", is_empty, "this node offers no tools yet")?;
    fields.only_if("functions", is_empty, "this node offers no tools yet")?;
    let no_tool = |value: &Value| matches!(value.as_str(), Some("none" | "auto"));
    fields.only_if("tool_choice", no_tool, "this node offers no tools yet")?;
    fields.only_if("function_call", no_tool, "this node offers no tools yet")?;
    let text_format = |value: &Value| value.get("type").and_then(Value::as_str) == Some("text");
    fields.only_if(
        "response_format",
        text_format,
        "only {\"type\": \"text\"} is",
    )?;
    let text_only = |value: &Value| {
        value
            .as_array()
            .is_some_and(|all| all.iter().all(|m| m == "text"))
    };
    fields.only_if("modalities", text_only, "only [\"text\"] is")?;
    fields.only_if("audio", is_empty, "models answer in text only")?;
    fields.only_if("prediction", is_empty, "leave it out")?;
    fields.only_if(
        "web_search_options",
        |_| false,
        "nodes do not search the web",
    )?;
    let none = |value: &Value| value.as_str() == Some("none");
    fields.only_if(
        "reasoning_effort",
        none,
        "this node's models do not reason separately",
    )
}
