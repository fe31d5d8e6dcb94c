//! The API of a node booted from its ISO as CD under BIOS.

use anyhow::{Context, Result, ensure};
use mnemos_qemu::{Boot, Machine, machine};
use mnemos_tests::openai::http_answer;
use mnemos_tests::runner::Runner;
use serde_json::{Value, json};

use crate::machines::{Machines, Node, POWER_OFF_LIMIT};
use crate::refusals;

type Test = fn(&mut Node) -> Result<()>;

const TESTS: [(&str, Test); 14] = [
    ("api::models", models),
    ("api::chat", chat),
    ("api::chat_stream_with_usage", chat_stream_with_usage),
    ("api::stop_sequence", stop_sequence),
    ("api::max_tokens", max_tokens),
    ("api::completion", completion),
    ("api::greedy_is_repeatable", greedy_is_repeatable),
    ("api::health_and_metrics", health_and_metrics),
    ("api::status", status),
    ("api::page_and_redirect", page_and_redirect),
    ("api::tls_1_3_and_the_shown_ca", tls_1_3_and_the_shown_ca),
    ("api::refuses_wrong_token", refusals::wrong_token),
    ("api::refuses_bad_requests", refusals::bad_requests),
    ("api::refuses_bad_values", refusals::bad_values),
];
const BOOT: &str = "api::iso_as_cd_under_bios_becomes_ready";
const POWER: &str = "api::power_button";

/// Boots one node and runs every API test on it; the power button comes last.
pub(crate) fn run(runner: &mut Runner, machines: &Machines) {
    let mut names: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
    names.extend([BOOT, POWER]);
    if !runner.wants(&names) {
        return;
    }
    let machine = Machine::new(Boot::Cd(machines.iso.clone()));
    let mut node = Node::boot(machines, &machine);
    let booted = node
        .as_ref()
        .map(|_| ())
        .map_err(|error| anyhow::anyhow!("{error:#}"));
    runner.test(BOOT, || booted);
    let Ok(node) = &mut node else {
        return;
    };
    for (name, test) in TESTS {
        runner.test(name, || test(node).map_err(|error| node.vm.explain(error)));
    }
    runner.test(POWER, || node.vm.power_off(POWER_OFF_LIMIT));
}

/// Arguments of a greedy chat.
pub(crate) fn greedy(node: &Node, prompt: &str) -> Result<Value> {
    Ok(json!({
        "model": node.model()?,
        "messages": [{ "role": "user", "content": prompt }],
        "temperature": 0,
        "max_tokens": 64,
    }))
}

fn text_of(answer: &Value) -> Result<&str> {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .with_context(|| format!("no text in {answer}"))
}

/// The texts of a stream's chunks, joined.
fn streamed_text(chunks: &Value) -> String {
    let chunks = chunks.as_array().map(Vec::as_slice).unwrap_or_default();
    chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect()
}

fn models(node: &mut Node) -> Result<()> {
    let list = node.client.must(&json!({ "op": "models" }))?;
    let ids: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|model| model["id"].as_str())
        .collect();
    ensure!(ids == [node.model()?], "the node lists {list}");
    ensure!(list[0]["object"] == "model", "{list}");
    Ok(())
}

fn chat(node: &mut Node) -> Result<()> {
    let arguments = greedy(node, "What is MNEMOS?")?;
    let answer = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let text = text_of(&answer)?;
    ensure!(
        text.split_whitespace().count() >= 3,
        "not a sentence: {text:?}"
    );
    let usage = &answer["usage"];
    let count = |name: &str| {
        usage[name]
            .as_u64()
            .with_context(|| format!("no {name} in {usage}"))
    };
    let (prompt, completion) = (count("prompt_tokens")?, count("completion_tokens")?);
    ensure!(
        prompt > 0 && completion > 0 && count("total_tokens")? == prompt + completion,
        "{usage}"
    );
    ensure!(answer["choices"][0]["finish_reason"] == "stop", "{answer}");
    ensure!(answer["object"] == "chat.completion", "{answer}");
    Ok(())
}

fn chat_stream_with_usage(node: &mut Node) -> Result<()> {
    let mut arguments = greedy(node, "What is MNEMOS?")?;
    let whole = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    arguments["stream"] = json!(true);
    arguments["stream_options"] = json!({ "include_usage": true });
    let chunks = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let text = streamed_text(&chunks);
    ensure!(text == text_of(&whole)?, "streamed {text:?}, whole {whole}");
    let list = chunks.as_array().context("no chunks")?;
    ensure!(
        list.len() >= 4,
        "an answer in {} chunks is no stream",
        list.len()
    );
    let last = list.last().context("no chunks")?;
    ensure!(
        last["usage"] == whole["usage"] && last["choices"] == json!([]),
        "last chunk: {last}"
    );
    let reasons: Vec<&Value> = list
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    ensure!(reasons == ["stop"], "finish reasons {reasons:?}");
    ensure!(
        list[0]["choices"][0]["delta"]["role"] == "assistant",
        "first chunk: {}",
        list[0]
    );
    Ok(())
}

fn stop_sequence(node: &mut Node) -> Result<()> {
    let mut arguments = greedy(node, "What is MNEMOS?")?;
    let whole = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let whole = text_of(&whole)?;
    let stop = whole
        .split_whitespace()
        .nth(2)
        .with_context(|| format!("no third word in {whole:?}"))?;
    arguments["stop"] = json!([stop]);
    let answer = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let text = text_of(&answer)?;
    let before = whole.split(stop).next().unwrap_or_default();
    ensure!(
        text.trim_end() == before.trim_end(),
        "stopped at {stop:?}: {text:?} of {whole:?}"
    );
    ensure!(answer["choices"][0]["finish_reason"] == "stop", "{answer}");
    arguments["stream"] = json!(true);
    let chunks = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let streamed = streamed_text(&chunks);
    ensure!(
        streamed.trim_end() == before.trim_end(),
        "a stream let {streamed:?} through"
    );
    Ok(())
}

fn max_tokens(node: &mut Node) -> Result<()> {
    let mut arguments = greedy(node, "What is MNEMOS?")?;
    arguments["max_tokens"] = json!(2);
    let answer = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    ensure!(answer["usage"]["completion_tokens"] == 2, "{answer}");
    ensure!(
        answer["choices"][0]["finish_reason"] == "length",
        "{answer}"
    );
    Ok(())
}

fn completion(node: &mut Node) -> Result<()> {
    let mut arguments =
        json!({ "model": node.model()?, "prompt": "MNEMOS is", "temperature": 0, "max_tokens": 8 });
    let whole = node
        .client
        .must(&json!({ "op": "completion", "arguments": arguments }))?;
    let text = whole["choices"][0]["text"]
        .as_str()
        .with_context(|| format!("no text in {whole}"))?;
    ensure!(
        !text.is_empty() && whole["object"] == "text_completion",
        "{whole}"
    );
    arguments["stream"] = json!(true);
    let chunks = node
        .client
        .must(&json!({ "op": "completion", "arguments": arguments }))?;
    let pieces = chunks.as_array().into_iter().flatten();
    let streamed: String = pieces
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    ensure!(streamed == text, "streamed {streamed:?}, whole {text:?}");
    Ok(())
}

fn greedy_is_repeatable(node: &mut Node) -> Result<()> {
    let arguments = greedy(node, "How do I get the token?")?;
    let first = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    let second = node
        .client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    ensure!(
        text_of(&first)? == text_of(&second)?,
        "{first} and {second}"
    );
    Ok(())
}

fn health_and_metrics(node: &mut Node) -> Result<()> {
    for path in ["/livez", "/readyz"] {
        let request = json!({ "op": "http", "method": "GET", "path": path, "authorized": false });
        let (status, body) = http_answer(&node.client.must(&request)?)?;
        ensure!(status == 200, "{path} answered {status}: {body}");
    }
    let (status, metrics) = node.client.http("GET", "/metrics", "")?;
    ensure!(
        status == 200 && metrics.contains("# TYPE "),
        "/metrics answered {status}: {metrics}"
    );
    Ok(())
}

fn status(node: &mut Node) -> Result<()> {
    let status = node.http.get("/api/v1/status")?;
    ensure!(
        status["ready"] == true && status["ephemeral"] == true,
        "{status}"
    );
    ensure!(
        status["self_test"]["state"] == "passed",
        "{}",
        status["self_test"]
    );
    ensure!(
        status["engines"][0]["state"] == "ready",
        "{}",
        status["engines"]
    );
    ensure!(
        status["fingerprint"] == node.ready.fingerprint.as_str(),
        "{}",
        status["fingerprint"]
    );
    let services = status["services"].as_array().context("no services")?;
    let failed: Vec<&Value> = services
        .iter()
        .filter(|unit| unit["state"] == "failed" || unit["state"] == "backoff")
        .collect();
    ensure!(failed.is_empty(), "units in trouble: {failed:?}");
    ensure!(status.get("token").is_none(), "the API shows the token");
    Ok(())
}

fn page_and_redirect(node: &mut Node) -> Result<()> {
    let request = json!({ "op": "http", "method": "GET", "path": "/", "authorized": false });
    let answer = node.client.must(&request)?;
    let (status, page) = http_answer(&answer)?;
    ensure!(
        status == 200 && page.contains("MNEMOS"),
        "/ answered {status}: {page}"
    );
    ensure!(
        !page.contains(&node.ready.token),
        "the page shows the token to anyone"
    );
    let url = format!("http://127.0.0.1:{}/", node.vm.port(machine::HTTP_PORT)?);
    let location = mnemos_qemu::client::redirect_of(&url)?;
    ensure!(
        location.starts_with("https://"),
        "port 80 leads to {location}"
    );
    Ok(())
}

fn tls_1_3_and_the_shown_ca(node: &mut Node) -> Result<()> {
    // The clients insist on both; that they talked is the proof. The fingerprint is the console's.
    ensure!(
        node.http
            .ca()
            .fingerprint
            .eq_ignore_ascii_case(&node.ready.fingerprint)
    );
    ensure!(
        node.ready.token.len() >= 20,
        "a token of {} characters can be guessed",
        node.ready.token.len()
    );
    Ok(())
}
