//! What the node refuses, and how it says so.

use anyhow::{Context, Result, ensure};
use mnemos_tests::openai::{Refusal, http_answer};
use serde_json::{Value, json};

use crate::api::greedy;
use crate::machines::Node;

/// More than any chat needs.
const HUGE_BYTES: u32 = 16 << 20;

/// 401 without the right token. That every path is closed, and that no work is done, the agent's own tests show.
pub(crate) fn wrong_token(node: &mut Node) -> Result<()> {
    let arguments = greedy(node, "What is MNEMOS?")?;
    let refusal = node
        .client
        .refused(&json!({ "op": "chat", "arguments": arguments, "token": "wrong" }))?;
    ensure!(
        refusal.class == "AuthenticationError" && refusal.status == Some(401),
        "{refusal:?}"
    );
    let refusal = node
        .client
        .refused(&json!({ "op": "models", "token": "wrong" }))?;
    ensure!(refusal.status == Some(401), "{refusal:?}");
    for path in ["/v1/models", "/api/v1/status"] {
        let request = json!({ "op": "http", "method": "GET", "path": path, "authorized": false });
        let (status, body) = http_answer(&node.client.must(&request)?)?;
        ensure!(
            status == 401,
            "{path} without a token answered {status}: {body}"
        );
    }
    Ok(())
}

/// 404 and 400: the model, the context, the body.
pub(crate) fn bad_requests(node: &mut Node) -> Result<()> {
    let model = node.model()?;
    let mut unknown = greedy(node, "What is MNEMOS?")?;
    unknown["model"] = json!("no-such-model");
    let refusal = node
        .client
        .refused(&json!({ "op": "chat", "arguments": unknown }))?;
    ensure!(
        refusal.class == "NotFoundError" && refusal.code.as_deref() == Some("model_not_found"),
        "{refusal:?}"
    );
    ensure!(
        refusal.message.contains(&model),
        "does not name {model}: {}",
        refusal.message
    );

    let long = greedy(node, &"word ".repeat(20_000))?;
    let refusal = node
        .client
        .refused(&json!({ "op": "chat", "arguments": long }))?;
    ensure!(refusal.status == Some(400), "{refusal:?}");
    ensure!(
        refusal.code.as_deref() == Some("context_length_exceeded"),
        "{refusal:?}"
    );

    let (status, body) = node
        .client
        .http("POST", "/v1/chat/completions", "{\"model\":")?;
    ensure!(
        status == 400,
        "half a JSON object answered {status}: {body}"
    );
    let (status, body) = node.client.http("POST", "/v1/no/such/path", "{}")?;
    ensure!(status == 404, "an unknown path answered {status}: {body}");
    let (status, _) = node.client.http("GET", "/v1/chat/completions", "")?;
    ensure!(status == 405, "GET of a completion answered {status}");

    let huge = json!({ "op": "http", "method": "POST", "path": "/v1/chat/completions", "padding_bytes": HUGE_BYTES });
    let (status, body) = http_answer(&node.client.must(&huge)?)?;
    ensure!(
        status == 400 && body.contains("body_too_large"),
        "{HUGE_BYTES} bytes answered {status}: {body}"
    );
    Ok(())
}

/// 400 with the field for wrong types and nonsense values.
pub(crate) fn bad_values(node: &mut Node) -> Result<()> {
    let values = [
        ("temperature", json!(-1), "temperature"),
        ("temperature", json!("hot"), "temperature"),
        ("temperature", json!(3), "temperature"),
        ("top_p", json!(0), "top_p"),
        ("top_p", json!(1.5), "top_p"),
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!(-5), "max_tokens"),
        ("max_tokens", json!("many"), "max_tokens"),
        ("messages", json!("hello"), "messages"),
        ("messages", json!([]), "messages"),
        (
            "messages",
            json!([{ "role": "user" }]),
            "messages[0].content",
        ),
        (
            "messages",
            json!([{ "role": "nobody", "content": "x" }]),
            "messages[0].role",
        ),
        ("stop", json!(["a", "b", "c", "d", "e"]), "stop"),
        ("stop", json!(7), "stop"),
        ("n", json!(2), "n"),
        ("frequency_penalty", json!(9), "frequency_penalty"),
        ("stream", json!("yes"), "stream"),
    ];
    let mut wrong = Vec::new();
    for (field, value, param) in values {
        let mut arguments = greedy(node, "What is MNEMOS?")?;
        arguments[field] = value.clone();
        let refusal = post(node, &arguments)?;
        if refusal.status != Some(400) || refusal.param.as_deref() != Some(param) {
            wrong.push(format!("{field} = {value}: {refusal:?}"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "not refused with 400 and the field:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// The client library checks some values itself, so these go as plain HTTP.
fn post(node: &mut Node, arguments: &Value) -> Result<Refusal> {
    let (status, body) =
        node.client
            .http("POST", "/v1/chat/completions", &arguments.to_string())?;
    let parsed: Value = serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))?;
    let error = &parsed["error"];
    Ok(Refusal {
        status: Some(status),
        code: error["code"].as_str().map(str::to_owned),
        param: error["param"].as_str().map(str::to_owned),
        message: error["message"].as_str().unwrap_or(&body).to_owned(),
        class: String::new(),
    })
}
