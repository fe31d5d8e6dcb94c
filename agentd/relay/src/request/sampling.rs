//! What both endpoints share: how tokens are picked, where to stop, and what is refused.

use mnemos_engine_protocol::Sampling;
use serde_json::Value;

use super::fields::Fields;
use crate::error::ApiError;

/// OpenAI's limit.
const MAX_STOPS: usize = 4;

/// Temperature and the like, in range; OpenAI's defaults.
pub(super) fn parse_sampling(fields: &Fields<'_>) -> Result<Sampling, ApiError> {
    let temperature = fields.number("temperature", 0.0..=2.0)?.unwrap_or(1.0);
    let top_p = fields.number("top_p", 0.0..=1.0)?.unwrap_or(1.0);
    if top_p <= 0.0 {
        return Err(fields.refuse("top_p", "must be greater than 0 and at most 1"));
    }
    refuse_seed(fields, temperature)?;
    Ok(Sampling {
        temperature,
        top_p,
        frequency_penalty: penalty(fields, "frequency_penalty")?,
        presence_penalty: penalty(fields, "presence_penalty")?,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "within -2..=2, an f32 is exact enough"
)]
fn penalty(fields: &Fields<'_>, name: &str) -> Result<f32, ApiError> {
    Ok(fields.number(name, -2.0..=2.0)?.unwrap_or(0.0) as f32)
}

/// The engine has no random generator per request, so only greedy decoding, which needs none, can
/// keep the promise of `seed`.
fn refuse_seed(fields: &Fields<'_>, temperature: f64) -> Result<(), ApiError> {
    let Some(seed) = fields.get("seed") else {
        return Ok(());
    };
    if !seed.is_i64() && !seed.is_u64() {
        return Err(fields.refuse("seed", "must be a whole number"));
    }
    if temperature > 0.0 {
        let reason = "is not supported with 'temperature' above 0: the engine has no seed per \
                      request; 'temperature': 0 always gives the same answer";
        return Err(fields.refuse("seed", reason));
    }
    Ok(())
}

/// `stop`: a string, or at most four, none empty.
pub(super) fn parse_stop(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let refuse = || {
        fields.refuse(
            "stop",
            "must be a non-empty string or an array of at most 4 non-empty strings",
        )
    };
    let stops = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => stops
            .iter()
            .map(|stop| stop.as_str().map(ToOwned::to_owned).ok_or_else(refuse))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(refuse()),
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        return Err(refuse());
    }
    Ok(stops)
}

/// `name` as an upper bound of generated tokens.
pub(super) fn parse_max_tokens(fields: &Fields<'_>, name: &str) -> Result<Option<u32>, ApiError> {
    fields.integer(name, 1..=u32::MAX)
}

/// Refuses what would change the answer and what no engine here can do.
pub(super) fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), ApiError> {
    let one = |value: &Value| value.as_u64() == Some(1);
    fields.only_if("n", one, "ask once for each answer")?;
    fields.only_if("logit_bias", is_empty, "leave it out")?;
    fields.only_if(
        "top_k",
        |value| value.as_i64().is_some_and(|k| k <= 0),
        "use 'top_p'",
    )?;
    fields.only_if("min_p", |value| value.as_f64() == Some(0.0), "use 'top_p'")?;
    let neutral = |value: &Value| value.as_f64() == Some(1.0);
    fields.only_if("repetition_penalty", neutral, "use 'frequency_penalty'")?;
    for name in [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "grammar",
    ] {
        fields.only_if(name, |_| false, "answers cannot be constrained yet")?;
    }
    Ok(())
}

/// An empty string, array or object, `false`, or 0: present, but asks for nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
