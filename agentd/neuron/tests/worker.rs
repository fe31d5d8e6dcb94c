//! The real worker process on small real models: answers, limits, cancellation, faults.

mod support;

use std::{fs, io::Write, os::unix::net::UnixStream, time::Instant};

use mnemos_engine_protocol::{ErrorCode, Event, FinishReason, Message, Prompt, Request, Role};
use support::{
    chain::Chain,
    worker::{Folder, Worker, greedy, program},
};

/// `=` is answered by ` Hello` and an end, `E` by `é1`, `;` by `ok`, `a` by the alphabet for ever.
fn chain(context_tokens: u32) -> Chain {
    Chain::new(context_tokens)
        .text("= Helo")
        .end(b'o')
        .text("Eé1")
        .end(b'1')
        .text(";KJ")
        .end(b'J')
        .text("abcdfghijma")
        .broken(b'N')
}

fn start(name: &str, context_tokens: u32, extra: &[&str]) -> (Folder, Worker) {
    let folder = Folder::new(name);
    chain(context_tokens).write(folder.path());
    let worker = Worker::start(&folder, extra);
    (folder, worker)
}

#[test]
fn answers_are_exact_and_say_why_they_end() {
    let (_folder, worker) = start("answers", 64, &[]);
    assert!(
        worker.notified[0].starts_with("STATUS=checking"),
        "{:?}",
        worker.notified
    );
    assert!(worker.notified[1].starts_with("STATUS=reading weights of test-model"));
    let info = worker.info();
    assert_eq!(
        (info.model.as_str(), info.context_tokens),
        ("test-model", 64)
    );
    assert!(info.engine.starts_with("mistral.rs") && info.threads > 0 && info.model_bytes > 0);

    let whole = worker.generate("=", |_| ()).answer();
    assert_eq!(whole, (" Helo".into(), FinishReason::Stop, 6));
    let cut = worker.generate("=", |g| g.max_tokens = Some(3)).answer();
    assert_eq!(cut, (" He".into(), FinishReason::Length, 3));
    let message = Message {
        role: Role::User,
        content: "hello".into(),
    };
    let chat = worker.send(&Request::Generate(greedy(
        Prompt::Chat(vec![message]),
        |_| (),
    )));
    let events = chat.all();
    // "user:hello;" by the template in the file.
    assert_eq!(events[0], Event::Started { prompt_tokens: 11 });
    assert!(
        matches!(&events[1], Event::Delta { text } if text == "K"),
        "{events:?}"
    );
    let Some(Event::Done { usage, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert!(usage.prefill_ms > 0.0 && usage.decode_ms > 0.0);
    let sampled = worker
        .generate("=", |g| g.sampling.temperature = 0.5)
        .answer();
    assert!(sampled.2 > 0);
}

#[test]
fn stop_strings_are_never_emitted() {
    let (_folder, worker) = start("stop", 512, &[]);
    let stop = |stops: &[&str]| {
        let stops = stops.iter().map(ToString::to_string).collect();
        worker
            .generate("a", |g| (g.stop, g.max_tokens) = (stops, Some(25)))
            .answer()
    };
    assert_eq!(stop(&["fgh"]), ("bcd".into(), FinishReason::Stop, 6));
    assert_eq!(stop(&["zz", "b"]), (String::new(), FinishReason::Stop, 1));
    assert_eq!(stop(&["ma"]), ("bcdfghij".into(), FinishReason::Stop, 10));
    // 25 tokens end inside a possible stop string: what was held back is released.
    let released = stop(&["dfgx"]);
    assert_eq!(
        released,
        ("bcdfghijmabcdfghijmabcdfg".into(), FinishReason::Length, 25)
    );
}

#[test]
fn characters_are_whole_even_over_token_borders() {
    let (_folder, worker) = start("utf8", 64, &[]);
    let events = worker.generate("E", |_| ()).all();
    assert!(
        matches!(&events[1], Event::Delta { text } if text == "é"),
        "{events:?}"
    );
    let cut = worker.generate("E", |g| g.max_tokens = Some(1)).answer();
    assert_eq!(cut, (String::new(), FinishReason::Length, 1));
}

#[test]
fn too_long_is_refused_with_both_figures_and_never_cut() {
    let (_folder, worker) = start("context", 64, &[]);
    let (code, message) = worker.generate(&"a".repeat(64), |_| ()).error();
    assert_eq!(code, ErrorCode::ContextLengthExceeded);
    assert!(
        message.starts_with("the prompt has 64 tokens and the model's context 64"),
        "{message}"
    );
    let (code, message) = worker
        .generate(&"a".repeat(60), |g| g.max_tokens = Some(5))
        .error();
    assert_eq!(code, ErrorCode::ContextLengthExceeded);
    assert!(
        message.contains("60 tokens") && message.contains("together 65"),
        "{message}"
    );
    let rest = worker
        .generate(&"a".repeat(60), |g| g.max_tokens = None)
        .answer();
    assert_eq!(rest, ("bcdf".into(), FinishReason::Length, 4));
}

#[test]
fn bad_requests_name_the_field() {
    let (folder, worker) = start("bad", 64, &[]);
    for (client, part) in [
        (
            worker.generate("a", |g| g.max_tokens = Some(0)),
            "max_tokens",
        ),
        (worker.generate("a", |g| g.sampling.top_p = 7.0), "top_p"),
        (
            worker.generate("a", |g| g.stop = vec![String::new()]),
            "stop",
        ),
        (worker.generate("", |_| ()), "empty"),
    ] {
        let (code, message) = client.error();
        assert_eq!(code, ErrorCode::InvalidRequest);
        assert!(message.contains(part), "{message}");
    }
    let mut stream = UnixStream::connect(folder.path().join("engine.sock")).unwrap();
    stream.write_all(&[0xff; 64]).unwrap(); // A length of 4 GiB.
    assert_eq!(worker.generate("E", |_| ()).answer().0, "é1");
}

#[test]
fn a_client_that_leaves_stops_the_engine() {
    let (_folder, worker) = start("cancel", 60_000, &[]);
    let mut client = worker.generate("a", |g| g.max_tokens = None);
    (0..20).for_each(|_| assert!(client.next().is_some()));
    assert_eq!(worker.info().running, 1);
    let left = Instant::now();
    drop(client);
    let line = worker.wait_for_log("client gone");
    worker.wait_for("a free engine", || {
        (worker.info().running == 0).then_some(())
    });
    println!(
        "the engine was free {} ms after the client left",
        left.elapsed().as_millis()
    );
    let tokens = line.split("completion_tokens=").nth(1).unwrap();
    let tokens: u32 = tokens.split(' ').next().unwrap().parse().unwrap();
    assert!(tokens < 30_000, "{line}");
    assert_eq!(worker.generate("E", |_| ()).answer().0, "é1");
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let (_folder, worker) = start("slow", 8192, &[]);
    // Far more frames than a socket buffers.
    let slow = worker.generate("a", |g| g.max_tokens = Some(4000));
    assert_eq!(worker.generate("E", |_| ()).answer().0, "é1");
    assert_eq!(worker.info().running, 0);
    let (text, end, tokens) = slow.answer();
    assert_eq!(
        (text.len(), end, tokens),
        (4000, FinishReason::Length, 4000)
    );
}

#[test]
fn some_requests_wait_in_order_the_rest_is_told_so() {
    let (_folder, worker) = start("busy", 60_000, &["--waiting", "1"]);
    let mut running = worker.generate("a", |g| g.max_tokens = None);
    assert!(running.next().is_some());
    let waiting = worker.generate("E", |_| ());
    worker.wait_for("a waiting request", || {
        (worker.info().waiting == 1).then_some(())
    });
    let (code, message) = worker.generate("E", |_| ()).error();
    assert_eq!(
        (code, message.contains("1 requests wait")),
        (ErrorCode::Busy, true)
    );
    drop(waiting);
    worker.wait_for("an empty queue", || {
        (worker.info().waiting == 0).then_some(())
    });
    let next = worker.generate("E", |_| ());
    drop(running);
    assert_eq!(next.answer().0, "é1");
}

#[test]
fn a_missed_deadline_is_answered_and_ends_the_process() {
    let (_folder, mut worker) = start("deadline", 8192, &["--first-token-ms", "1"]);
    let (code, message) = worker.generate(&"a".repeat(8000), |_| ()).error();
    assert_eq!(
        (code, message.contains("no token within")),
        (ErrorCode::Timeout, true)
    );
    assert_eq!(worker.wait().code(), Some(70));
}

#[test]
fn a_failed_step_is_answered_to_all_and_ends_the_process() {
    let (_folder, mut worker) = start("step", 60_000, &[]);
    let mut first = worker.generate("a", |g| g.max_tokens = None);
    assert!(first.next().is_some());
    let failing = worker.generate("N", |g| g.sampling.temperature = 1.0);
    worker.wait_for("a waiting request", || {
        (worker.info().waiting == 1).then_some(())
    });
    let waiting = worker.generate("E", |_| ());
    worker.wait_for("two waiting requests", || {
        (worker.info().waiting == 2).then_some(())
    });
    drop(first);
    for client in [failing, waiting] {
        let (code, message) = client.error();
        assert_eq!(
            (code, message.contains("restarts itself")),
            (ErrorCode::Internal, true),
            "{message}"
        );
    }
    assert_eq!(worker.wait().code(), Some(70));
}

#[test]
fn a_stop_by_pid_1_is_clean() {
    let (folder, mut worker) = start("stopped", 60_000, &[]);
    let mut running = worker.generate("a", |g| g.max_tokens = None);
    assert!(running.next().is_some());
    worker.terminate();
    let (code, message) = running.error();
    assert_eq!(
        (code, message.contains("stopped")),
        (ErrorCode::Internal, true)
    );
    assert_eq!(worker.wait().code(), Some(0));
    assert!(!folder.path().join("engine.sock").exists());
}

#[test]
fn memory_does_not_grow_with_requests() {
    let (_folder, worker) = start("memory", 4096, &[]);
    let requests = |count: usize| {
        for index in 0..count {
            let prompt = format!("{index:0>300}=");
            assert_eq!(worker.generate(&prompt, |_| ()).answer().0, " Helo");
        }
        worker.resident_kib()
    };
    let (early, late) = (requests(20), requests(100));
    // A prefix cache would keep 2 MiB for each of them.
    assert!(
        late < early + 50 * 1024,
        "{early} KiB after 20 requests, {late} KiB after 170"
    );
}

#[test]
fn bad_model_files_end_the_start_with_a_sentence() {
    let folder = Folder::new("badmodel");
    chain(64).write(folder.path());
    let weights = folder.path().join("model.gguf");
    let whole = fs::read(&weights).unwrap();
    let start = || {
        let dir = folder.path().to_str().unwrap();
        let arguments = [
            "--instance",
            "x",
            "--model-dir",
            dir,
            "--socket",
            "/dev/null/x",
        ];
        let output = program(&arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let (code, sentence) = start();
    assert_eq!(code, Some(1));
    assert!(sentence.contains("has SHA-256"), "{sentence}");
    support::chain::describe(folder.path(), 64);
    let (code, sentence) = start();
    assert_eq!(code, Some(1));
    assert!(sentence.contains("cannot be served: tensor"), "{sentence}");
    fs::write(&weights, &whole).unwrap();
    support::chain::describe(folder.path(), 65);
    let (_, sentence) = start();
    assert!(
        sentence.contains("65 tokens of context, the model has 64"),
        "{sentence}"
    );
    fs::remove_file(folder.path().join("model.json")).unwrap();
    let (_, sentence) = start();
    assert!(sentence.contains("model.json: No such file"), "{sentence}");
}

#[test]
fn the_bench_prints_one_json_object() {
    let folder = Folder::new("bench");
    chain(512).write(folder.path());
    let dir = folder.path().to_str().unwrap();
    let arguments = [
        "bench",
        "--model-dir",
        dir,
        "--prompt-tokens",
        "100",
        "--decode-tokens",
        "20",
        "--threads",
        "1",
    ];
    let output = program(&arguments).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        report["prefill_tokens_per_s"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert_eq!(
        (&report["threads"], &report["prompt_tokens"]),
        (&1.into(), &100.into())
    );
}

/// The model that ships must give, to the letter, the answers recorded when it was trained.
#[test]
fn the_self_test_model_answers_as_recorded() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/selftest/model");
    let Ok(description) = fs::read_to_string(format!("{model}/model.json")) else {
        println!("no self-test model in this checkout");
        return;
    };
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    let folder = Folder::new("selftest");
    for file in ["model.gguf", "model.json"] {
        fs::copy(format!("{model}/{file}"), folder.path().join(file)).unwrap();
    }
    let worker = Worker::start(&folder, &[]);
    for case in description["self_test_cases"].as_array().unwrap() {
        let content = case["prompt"].as_str().unwrap().to_owned();
        let prompt = Prompt::Chat(vec![Message {
            role: Role::User,
            content,
        }]);
        let max_tokens = case["max_tokens"].as_u64().unwrap().try_into().unwrap();
        let request = greedy(prompt, |g| g.max_tokens = Some(max_tokens));
        let (text, _, tokens) = worker.send(&Request::Generate(request)).answer();
        assert_eq!(text, case["answer"].as_str().unwrap(), "{tokens} tokens");
    }
}
