//! What is accepted, and what is refused under which name.

use mnemos_engine_protocol::{Message, Prompt, Role, Sampling};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn chat_with(extra: Value) -> Result<Job, ApiError> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    merge(&mut body, extra);
    parse_chat(body.to_string().as_bytes())
}

fn completion_with(extra: Value) -> Result<Job, ApiError> {
    let mut body = json!({"model": "m", "prompt": "hi"});
    merge(&mut body, extra);
    parse_completion(body.to_string().as_bytes())
}

fn merge(body: &mut Value, extra: Value) {
    let Value::Object(extra) = extra else {
        panic!("an object")
    };
    body.as_object_mut().unwrap().extend(extra);
}

fn refused_param(result: Result<Job, ApiError>) -> String {
    match result {
        Err(ApiError::Field { param, message }) => {
            assert!(message.contains(&format!("'{param}'")), "{message}");
            param
        }
        other => panic!("not refused by field: {other:?}"),
    }
}

#[test]
fn chat_defaults_are_openais() {
    let job = chat_with(json!({})).unwrap();
    let message = Message {
        role: Role::User,
        content: "hi".into(),
    };
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
    };
    let expected = Job {
        model: "m".into(),
        prompt: Prompt::Chat(vec![message]),
        sampling,
        stop: vec![],
        max_tokens: None,
        delivery: Delivery::Whole,
    };
    assert_eq!(job, expected);
    assert_eq!(completion_with(json!({})).unwrap().max_tokens, Some(16));
}

#[test]
fn content_parts_and_developer_role_are_understood() {
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    let job =
        chat_with(json!({"messages": [{"role": "developer", "content": parts, "name": "x"}]}));
    let expected = Message {
        role: Role::System,
        content: "ab".into(),
    };
    assert_eq!(job.unwrap().prompt, Prompt::Chat(vec![expected]));
}

#[test]
fn harmless_fields_are_accepted() {
    let extra = json!({
        "user": "u", "metadata": {"a": "b"}, "store": true, "service_tier": "auto",
        "parallel_tool_calls": true, "n": 1, "tools": [], "tool_choice": "none", "logprobs": false,
        "logit_bias": {}, "response_format": {"type": "text"}, "modalities": ["text"],
        "temperature": null, "stop": null, "seed": null, "a_field_of_next_year": [1, 2],
    });
    chat_with(extra).unwrap();
    completion_with(json!({"best_of": 1, "echo": false, "suffix": "", "prompt": ["hi"]})).unwrap();
}

#[test]
fn seed_is_honoured_by_greedy_decoding_only() {
    assert_eq!(
        chat_with(json!({"seed": 7, "temperature": 0}))
            .unwrap()
            .sampling
            .temperature,
        0.0
    );
    assert_eq!(refused_param(chat_with(json!({"seed": 7}))), "seed");
    assert_eq!(
        refused_param(chat_with(json!({"seed": "x", "temperature": 0}))),
        "seed"
    );
}

#[test]
fn limits_and_stops_are_read() {
    let extra = json!({
        "stop": ["a", "b"], "max_completion_tokens": 5, "stream": true,
        "stream_options": {"include_usage": true}, "temperature": 0.5, "top_p": 0.9,
        "frequency_penalty": -2, "presence_penalty": 2,
    });
    let job = chat_with(extra).unwrap();
    assert_eq!(job.stop, ["a", "b"]);
    assert_eq!(job.max_tokens, Some(5));
    assert_eq!(
        job.delivery,
        Delivery::Stream {
            include_usage: true
        }
    );
    let sampling = Sampling {
        temperature: 0.5,
        top_p: 0.9,
        frequency_penalty: -2.0,
        presence_penalty: 2.0,
    };
    assert_eq!(job.sampling, sampling);
    assert_eq!(chat_with(json!({"stop": "x"})).unwrap().stop, ["x"]);
}

#[test]
fn model_and_messages_are_refused_by_name() {
    let cases = [
        (json!({"model": null}), "model"),
        (json!({"model": 3}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
        (
            json!({"messages": [{"role": "king", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": []}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [1]}]}),
            "messages[0].content[0]",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
    ];
    for (extra, param) in cases {
        assert_eq!(refused_param(chat_with(extra.clone())), param, "{extra}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let cases = [
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"frequency_penalty": 3}), "frequency_penalty"),
        (json!({"presence_penalty": -3}), "presence_penalty"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"max_tokens": 4294967296u64}), "max_tokens"),
        (
            json!({"max_tokens": 1, "max_completion_tokens": 2}),
            "max_tokens",
        ),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stop": 1}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": 1}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
    ];
    for (extra, param) in cases {
        assert_eq!(refused_param(chat_with(extra.clone())), param, "{extra}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        (json!({"n": 2}), "n"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"tools": [{"type": "function"}]}), "tools"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"functions": [{}]}), "functions"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
        ),
        (json!({"logit_bias": {"5": 1}}), "logit_bias"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"top_k": 40}), "top_k"),
        (json!({"guided_json": {}}), "guided_json"),
    ];
    for (extra, param) in cases {
        assert_eq!(refused_param(chat_with(extra.clone())), param, "{extra}");
    }
}

#[test]
fn completion_refusals_name_the_field() {
    let cases = [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"prompt": [1, 2]}), "prompt"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"echo": true}), "echo"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"logprobs": 0}), "logprobs"),
    ];
    for (extra, param) in cases {
        assert_eq!(
            refused_param(completion_with(extra.clone())),
            param,
            "{extra}"
        );
    }
}

#[test]
fn what_is_not_an_object_is_refused_as_json() {
    for body in ["", "{", "[]", "3", "\"x\"", "{\"model\":\"m\",}", "\u{0}"] {
        assert!(
            matches!(parse_chat(body.as_bytes()), Err(ApiError::Json(_))),
            "{body}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(
        parse_chat(deep.as_bytes()),
        Err(ApiError::Json(_))
    ));
}

const NAMES: &[&str] = &[
    "model",
    "messages",
    "prompt",
    "stop",
    "temperature",
    "top_p",
    "seed",
    "n",
    "max_tokens",
    "stream",
    "stream_options",
    "include_usage",
    "role",
    "content",
    "type",
    "text",
    "tools",
    "response_format",
    "modalities",
    "logprobs",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["user", "text", "m", "", "system"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let entry = (prop::sample::select(NAMES), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(entry, 0..8).prop_map(|all| {
                Value::Object(
                    all.into_iter()
                        .map(|(name, v)| (name.to_owned(), v))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_never_panics_on_bytes(body: Vec<u8>) {
        let _ = parse_chat(&body);
        let _ = parse_completion(&body);
    }

    #[test]
    fn parsing_never_panics_on_json(extra in any_json()) {
        let body = extra.to_string();
        let _ = parse_chat(body.as_bytes());
        let _ = parse_completion(body.as_bytes());
    }

    /// Whatever is accepted is within what the engine was promised.
    #[test]
    fn accepted_sampling_is_in_range(temperature: f64, top_p in -1.0..2.0f64, penalty in -3.0..3.0f32) {
        let extra = json!({"temperature": temperature, "top_p": top_p, "frequency_penalty": penalty});
        if let Ok(job) = chat_with(extra) {
            prop_assert!((0.0..=2.0).contains(&job.sampling.temperature));
            prop_assert!(job.sampling.top_p > 0.0 && job.sampling.top_p <= 1.0);
            prop_assert!((-2.0..=2.0).contains(&job.sampling.frequency_penalty));
        }
    }
}
