//! `/v1` over real TLS, with an engine that follows a script: each endpoint's answer, each refusal, and
//! what the engine saw of it.

use std::time::Duration;

use crate::support::{Bench, MODEL, ScriptedEngine, limits, wait_for};
use hyper::Method;
use mnemos_engine_protocol::{Message, Prompt, Role, Sampling};
use serde_json::{Value, json};

fn chat(text: &str) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": text}]})
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn models_are_listed_and_shown() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let list = bench.client.get("/v1/models").await;
    assert_eq!(list.status, 200);
    let list = list.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], MODEL);
    assert_eq!(list["data"][0]["max_model_len"], 64);
    assert_eq!(list["data"][0]["mnemos"]["self_test"], true);
    let one = bench.client.get("/v1/models/scripted").await.json();
    assert_eq!(one, list["data"][0]);
    let none = bench.client.get("/v1/models/gpt-4").await;
    assert_eq!(none.status, 404);
    assert_eq!(
        none.error(),
        (Some("model_not_found".into()), Some("model".into()))
    );
    assert!(none.text().contains(MODEL), "{}", none.text());
}

#[tokio::test]
async fn chat_is_answered_whole() {
    let (bench, engine) = Bench::ready(limits()).await;
    let mut body = chat("hi");
    body["temperature"] = 0.into();
    body["stop"] = "x".into();
    body["max_tokens"] = 9.into();
    let answer = bench.client.post(CHAT, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["choices"][0]["message"]["content"], "Hello");
    assert_eq!(json["choices"][0]["message"]["role"], "assistant");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        json["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
    );
    assert_eq!(json["timings"]["prompt_per_second"], 300.0);
    assert_eq!(json["timings"]["predicted_per_second"], 100.0);
    assert!(
        json["system_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("fp_")
    );
    let id = json["id"].as_str().unwrap();
    assert!(id.starts_with("chatcmpl-"));
    assert_eq!(answer.header("x-request-id"), Some(id));

    let requests = engine.requests();
    assert_eq!(requests.len(), 1);
    let message = Message {
        role: Role::User,
        content: "hi".into(),
    };
    assert_eq!(requests[0].id, id);
    assert_eq!(requests[0].prompt, Prompt::Chat(vec![message]));
    assert_eq!(requests[0].stop, ["x"]);
    assert_eq!(requests[0].max_tokens, Some(9));
    let greedy = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
    };
    assert_eq!(requests[0].sampling, greedy);
}

#[tokio::test]
async fn chat_is_streamed_with_usage_in_a_last_chunk() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let mut body = streamed(chat("hi"));
    body["stream_options"] = json!({"include_usage": true});
    let stream = bench.client.open(CHAT, &body).await;
    assert_eq!(stream.status, 200);
    let mut events = stream.events().await;
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 8);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some())
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == usage["id"]));
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert!(
        before
            .iter()
            .all(|chunk| chunk["choices"][0]["finish_reason"].is_null())
    );
}

#[tokio::test]
async fn streams_have_no_usage_unless_asked() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let events = bench
        .client
        .open(CHAT, &streamed(chat("hi")))
        .await
        .events()
        .await;
    assert!(
        events.iter().all(|event| !event.contains("usage")),
        "{events:?}"
    );
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
}

#[tokio::test]
async fn completions_are_answered_whole_and_streamed() {
    let (bench, engine) = Bench::ready(limits()).await;
    let body = json!({"model": MODEL, "prompt": "once"});
    let json = bench.client.post("/v1/completions", &body).await.json();
    assert_eq!(json["object"], "text_completion");
    assert_eq!(json["choices"][0]["text"], "Hello");
    assert!(json["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(engine.requests()[0].prompt, Prompt::Text("once".into()));
    assert_eq!(engine.requests()[0].max_tokens, Some(16));
    let mut events = bench
        .client
        .open("/v1/completions", &streamed(body))
        .await
        .events()
        .await;
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "Hello");
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "stop"
    );
}

#[tokio::test]
async fn bad_requests_are_refused_and_never_reach_the_engine() {
    let (bench, engine) = Bench::ready(limits()).await;
    let with = |name: &str, value: Value| {
        let mut body = chat("hi");
        body[name] = value;
        body
    };
    let cases = [
        (with("temperature", json!(5)), "temperature"),
        (with("top_p", json!("x")), "top_p"),
        (with("n", json!(2)), "n"),
        (with("seed", json!(1)), "seed"),
        (with("messages", json!([])), "messages"),
        (with("tools", json!([{}])), "tools"),
        (with("max_tokens", json!(-1)), "max_tokens"),
    ];
    for (body, param) in cases {
        let answer = bench.client.post(CHAT, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.error().1.as_deref(), Some(param), "{body}");
    }
    let unknown = bench
        .client
        .post(CHAT, &with("model", json!("gpt-4")))
        .await;
    assert_eq!(
        (unknown.status, unknown.error().0),
        (404, Some("model_not_found".into()))
    );
    assert!(unknown.text().contains(MODEL));
    let broken = bench
        .client
        .send(bench.client.request(Method::POST, CHAT, "{\"model\":"))
        .await;
    assert_eq!(
        (broken.status, broken.error().0),
        (400, Some("invalid_json".into()))
    );
    let mut text = bench
        .client
        .request(Method::POST, CHAT, &chat("hi").to_string());
    text.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    let text = bench.client.send(text).await;
    assert_eq!(
        (text.status, text.error().0),
        (415, Some("unsupported_media_type".into()))
    );
    let large = bench
        .client
        .post(CHAT, &chat(&"x".repeat(2 * 1024 * 1024)))
        .await;
    assert_eq!(
        (large.status, large.error().0),
        (400, Some("body_too_large".into()))
    );
    let method = bench.client.get(CHAT).await;
    assert_eq!(
        (method.status, method.error().0),
        (405, Some("method_not_allowed".into()))
    );
    let path = bench.client.get("/v1/embeddings").await;
    assert_eq!(
        (path.status, path.error().0),
        (404, Some("not_found".into()))
    );
    assert_eq!(engine.requests(), []);
}

#[tokio::test]
async fn engine_refusals_keep_their_meaning() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let cases = [
        ("too long", 400, "context_length_exceeded", Some("messages")),
        ("busy", 429, "engine_busy", None),
        ("timeout", 504, "engine_timeout", None),
        ("fail", 500, "engine_error", None),
        ("die early", 502, "engine_died", None),
        ("garbage", 502, "engine_died", None),
    ];
    for (text, status, code, param) in cases {
        let answer = bench.client.post(CHAT, &chat(text)).await;
        assert_eq!(answer.status, status, "{text}: {}", answer.text());
        assert_eq!(
            answer.error(),
            (Some(code.into()), param.map(ToOwned::to_owned)),
            "{text}"
        );
        let retry = answer.header("retry-after").is_some();
        assert_eq!(retry, [429, 502, 503].contains(&status), "{text}");
    }
    // Before the first event, a stream's refusal is an ordinary answer.
    let refused = bench.client.post(CHAT, &streamed(chat("too long"))).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn an_engine_that_dies_mid_answer_fails_that_answer_only() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let whole = bench.client.post(CHAT, &chat("die")).await;
    assert_eq!(
        (whole.status, whole.error().0),
        (502, Some("engine_died".into()))
    );
    let events = bench
        .client
        .open(CHAT, &streamed(chat("die")))
        .await
        .events()
        .await;
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "engine_died");
    assert!(
        events.iter().any(|event| event.contains("Hel")),
        "{events:?}"
    );
    assert_eq!(bench.client.post(CHAT, &chat("hi")).await.status, 200);
}

#[tokio::test]
async fn without_an_engine_clients_are_told_to_retry_and_then_served() {
    let bench = Bench::start(limits()).await;
    let known = async || bench.client.get("/v1/models/scripted").await.status == 200;
    wait_for("the model is known", known).await;
    let answer = bench.client.post(CHAT, &chat("hi")).await;
    assert_eq!(
        (answer.status, answer.error().0),
        (503, Some("engine_unavailable".into()))
    );
    assert!(answer.header("retry-after").is_some());
    let engine = ScriptedEngine::start(&bench.socket());
    bench.wait_ready().await;
    assert_eq!(bench.client.post(CHAT, &chat("hi")).await.status, 200);
    drop(engine);
    let gone = async || bench.client.post(CHAT, &chat("hi")).await.status == 503;
    wait_for("the engine's end is seen", gone).await;
    let _engine = ScriptedEngine::start(&bench.socket());
    bench.wait_ready().await;
    assert_eq!(bench.client.post(CHAT, &chat("hi")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_frees_the_engine() {
    let (bench, engine) = Bench::ready(limits()).await;
    let mut stream = bench.client.open(CHAT, &streamed(chat("hang"))).await;
    stream.read_until("Hel").await;
    stream.hang_up();
    engine.wait_cancelled(1).await;

    let client = bench.client.clone();
    let whole = tokio::spawn(async move { client.post(CHAT, &chat("hang")).await });
    wait_for("the engine works", async || engine.requests().len() == 2).await;
    whole.abort();
    engine.wait_cancelled(2).await;
    let metrics = bench.client.get("/metrics").await.text();
    let aborted = "mnemos_requests_total{model_name=\"scripted\",finished_reason=\"abort\"} 2\n";
    assert!(metrics.contains(aborted), "{metrics}");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_request_and_delays_nobody() {
    let mut limits = limits();
    limits.relay.client_stall = Duration::from_millis(500);
    let (bench, engine) = Bench::ready(limits).await;
    let stuck = bench.client.open(CHAT, &streamed(chat("flood"))).await;
    assert_eq!(bench.client.post(CHAT, &chat("hi")).await.status, 200);
    engine.wait_cancelled(1).await;
    drop(stuck);
}

#[tokio::test]
async fn an_engine_that_goes_silent_is_given_up() {
    let mut limits = limits();
    limits.relay.engine_event = Duration::from_millis(300);
    let (bench, engine) = Bench::ready(limits).await;
    let before = bench.client.post(CHAT, &chat("silent")).await;
    assert_eq!(
        (before.status, before.error().0),
        (504, Some("engine_timeout".into()))
    );
    let whole = bench.client.post(CHAT, &chat("hang")).await;
    assert_eq!(whole.status, 504);
    let events = bench
        .client
        .open(CHAT, &streamed(chat("hang")))
        .await
        .events()
        .await;
    assert!(
        events.last().unwrap().contains("engine_timeout"),
        "{events:?}"
    );
    engine.wait_cancelled(3).await;
}

#[tokio::test]
async fn more_requests_than_slots_are_told_to_retry() {
    let mut limits = limits();
    limits.relay.requests = 1;
    let (bench, engine) = Bench::ready(limits).await;
    let mut first = bench.client.open(CHAT, &streamed(chat("hang"))).await;
    first.read_until("Hel").await;
    let second = bench.client.post(CHAT, &chat("hi")).await;
    assert_eq!(
        (second.status, second.error().0),
        (429, Some("engine_busy".into()))
    );
    assert!(second.header("retry-after").is_some());
    assert_eq!(engine.requests().len(), 1);
    first.hang_up();
    engine.wait_cancelled(1).await;
    let served = async || bench.client.post(CHAT, &chat("hi")).await.status == 200;
    wait_for("the slot is free again", served).await;
}
