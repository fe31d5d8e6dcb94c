//! The node's own routes and listeners, over real TLS: health, status, metrics, power, the plain port,
//! the console's socket, deadlines, and restarts.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::{
    Bench, Client, DEADLINE, MODEL, ScriptedEngine, config, furnish, limits, wait_for,
};
use hyper::Method;
use mnemos_agentd::Agent;
use mnemos_hostd::server;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

#[tokio::test]
async fn everything_but_health_and_page_needs_the_token() {
    let (bench, engine) = Bench::ready(limits()).await;
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let closed = [
        (Method::GET, "/v1/models", ""),
        (Method::GET, "/v1/models/scripted", ""),
        (Method::POST, "/v1/chat/completions", &*chat),
        (Method::POST, "/v1/completions", "{}"),
        (Method::GET, "/api/v1/status", ""),
        (Method::POST, "/api/v1/power", r#"{"action":"reboot"}"#),
        (Method::GET, "/metrics", ""),
    ];
    let wrong = format!("Bearer {}x", bench.client.token);
    for (method, path, body) in closed {
        for credentials in [None, Some(&*wrong), Some("Basic x"), Some("Bearer ")] {
            let mut request = bench.client.request(method.clone(), path, body);
            request.headers_mut().remove("authorization");
            if let Some(credentials) = credentials {
                request
                    .headers_mut()
                    .insert("authorization", credentials.parse().unwrap());
            }
            let answer = bench.client.send(request).await;
            assert_eq!(answer.status, 401, "{path} {credentials:?}");
            assert_eq!(answer.error().0.as_deref(), Some("invalid_api_key"));
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer")
            );
        }
    }
    assert_eq!(engine.requests(), []);
    for path in ["/livez", "/readyz", "/"] {
        let mut request = bench.client.request(Method::GET, path, "");
        request.headers_mut().remove("authorization");
        assert_eq!(bench.client.send(request).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn ready_follows_the_self_test() {
    let bench = Bench::start(limits()).await;
    assert_eq!(bench.client.get("/livez").await.status, 200);
    let early = bench.client.get("/readyz").await;
    assert_eq!(early.status, 503);
    assert!(!early.json()["missing"].as_array().unwrap().is_empty());
    let liar = ScriptedEngine::start_lying(&bench.socket());
    let failed = async || {
        let text = bench.client.get("/readyz").await.text();
        text.contains("self-test failed") && text.contains("Goodbye")
    };
    wait_for("the self-test failed", failed).await;
    drop(liar);
    let gone = async || !bench.client.get("/readyz").await.text().contains("Goodbye");
    wait_for("the failed engine is gone", gone).await;
    let engine = ScriptedEngine::start(&bench.socket());
    bench.wait_ready().await;
    let status = bench.client.get("/api/v1/status").await.json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["self_test"]["state"], "passed");
    assert_eq!(status["self_test"]["prefill_tokens_per_s"], 300.0);
    assert_eq!(status["self_test"]["decode_tokens_per_s"], 100.0);
    fs::remove_file(engine.socket()).unwrap();
    drop(engine);
    bench.wait_not_ready().await;
}

#[tokio::test]
async fn status_says_what_the_page_needs() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let services = json!({"uptime_ms": 5, "problems": ["little memory; give it 2 GiB"], "units": [
        {"name": "mnemos-neuron@selftest.service", "description": "E", "state": "running",
         "since_ms": 1, "restarts": 3, "main_pid": 7, "status": null, "detail": null},
        {"name": "b.service", "description": "B", "state": "failed", "since_ms": 1, "restarts": 0,
         "main_pid": null, "status": null, "detail": "exit status 1"}]});
    fs::write(
        bench.directory.path().join("services.json"),
        services.to_string(),
    )
    .unwrap();
    let status = bench.client.get("/api/v1/status").await;
    assert_eq!(status.status, 200);
    let status = status.json();
    assert_eq!(status["name"], "testnode");
    assert_eq!(status["ephemeral"], true);
    assert_eq!(status["services"][0]["main_pid"], 7);
    assert_eq!(status["engines"][0]["instance"], "selftest");
    assert_eq!(status["engines"][0]["state"], "ready");
    assert_eq!(status["engines"][0]["waiting"], 2);
    assert!(status["memory"]["total_bytes"].as_u64().unwrap() > 0);
    assert!(
        status["fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("SHA256:")
    );
    assert!(status["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        status["problems"].as_array().unwrap().len(),
        2,
        "{}",
        status["problems"]
    );
    assert!(
        status.get("token").is_none(),
        "the token is for the console only"
    );
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let (bench, _engine) = Bench::ready(limits()).await;
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    bench.client.post("/v1/chat/completions", &chat).await;
    bench.client.get("/no/such/path").await;
    let answer = bench.client.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text();
    let expected = [
        "mnemos_ready 1",
        "mnemos_engine_up{instance_name=\"selftest\",model_name=\"scripted\"} 1",
        "mnemos_num_requests_waiting{instance_name=\"selftest\",model_name=\"scripted\"} 2",
        "mnemos_requests_total{model_name=\"scripted\",finished_reason=\"stop\"} 1",
        "mnemos_prompt_tokens_total{model_name=\"scripted\"} 3",
        "mnemos_generation_tokens_total{model_name=\"scripted\"} 5",
        "mnemos_time_to_first_token_seconds_count{model_name=\"scripted\"} 1",
        "mnemos_inter_token_latency_seconds_count{model_name=\"scripted\"} 1",
        "mnemos_e2e_request_latency_seconds_count{model_name=\"scripted\"} 1",
        "mnemos_http_responses_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1",
        "mnemos_http_responses_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
    ];
    for line in expected {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in {text}"
        );
    }
}

#[tokio::test]
async fn power_reaches_pid_1_through_the_root_helper() {
    let bench = Bench::start(limits()).await;
    let down = bench
        .client
        .post("/api/v1/power", &json!({"action": "reboot"}))
        .await;
    assert_eq!(
        (down.status, down.error().0),
        (503, Some("unavailable".into()))
    );
    for body in [
        json!({"action": "explode"}),
        json!({}),
        json!([]),
        json!({"action": "reboot", "x": 1}),
    ] {
        let refused = bench.client.post("/api/v1/power", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.error().1.as_deref(), Some("action"));
    }
    let init = Process::waiting();
    let helper = start_helper(bench.directory.path(), &init);
    let accepted = bench
        .client
        .post("/api/v1/power", &json!({"action": "power_off"}))
        .await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let mut init = init;
    let ended = tokio::task::spawn_blocking(move || init.wait().signal())
        .await
        .unwrap();
    assert_eq!(ended, Some(nix::libc::SIGRTMIN() + 4));
    drop(helper);
}

/// The real root helper, which takes `init` for PID 1.
fn start_helper(directory: &Path, init: &Process) -> std::thread::JoinHandle<()> {
    let listener = std::os::unix::net::UnixListener::bind(directory.join("hostd.sock")).unwrap();
    let config = server::Config {
        allowed_uids: vec![nix::unistd::getuid().as_raw()],
        init: rustix::process::Pid::from_raw(init.id()).unwrap(),
        peer_deadline: DEADLINE,
    };
    std::thread::spawn(move || drop(server::serve(&listener, &config)))
}

#[tokio::test]
async fn the_plain_port_redirects_and_hands_out_the_ca() {
    let bench = Bench::start(limits()).await;
    let ca = bench.client.plain(Method::GET, "/ca.crt").await;
    assert_eq!(
        ca.header("content-type"),
        Some("application/x-x509-ca-cert")
    );
    let file = fs::read_to_string(bench.directory.path().join("state/ca.crt")).unwrap();
    assert_eq!(ca.text(), file);
    let moved = bench.client.plain(Method::GET, "/a?b").await;
    assert_eq!(moved.status, 308);
    let target = format!("https://testnode.local:{}/a?b", bench.agent.https.port());
    assert_eq!(moved.header("location"), Some(&*target));
    let refused = bench
        .client
        .plain(Method::POST, "/v1/chat/completions")
        .await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("not encrypted"));
}

#[tokio::test]
async fn the_console_gets_status_and_token() {
    let bench = Bench::start(limits()).await;
    let path = bench.directory.path().join("run/local.sock");
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = b"GET /status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["token"], bench.client.token);
    assert_eq!(body["name"], "testnode");
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let mut limits = limits();
    limits.head = Duration::from_millis(300);
    limits.handshake = Duration::from_millis(300);
    limits.relay.body_deadline = Duration::from_millis(300);
    let bench = Bench::start(limits).await;
    let mut no_handshake = TcpStream::connect(bench.agent.https).await.unwrap();
    let mut byte = [0; 1];
    let end = timeout(DEADLINE, no_handshake.read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
    let mut half_head = bench.client.connect().await;
    half_head
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, half_head.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    let mut half_body = bench.client.connect().await;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: 10\r\n\r\n{{",
        bench.client.token,
    );
    half_body.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, half_body.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let mut limits = limits();
    limits.head = Duration::from_millis(300);
    let bench = Bench::start(limits).await;
    let mut unused = bench.client.connect().await;
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, unused.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let mut used = bench.client.connect().await;
    used.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let _ = timeout(DEADLINE, used.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_that_runs_when_the_agent_stops_is_finished() {
    let mut limits = limits();
    limits.drain = DEADLINE;
    let (bench, engine) = Bench::ready(limits).await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "slow"}]});
    let client = bench.client.clone();
    let running =
        tokio::spawn(async move { client.post("/v1/chat/completions", &body).await.status });
    wait_for("the engine works", async || engine.requests().len() == 1).await;
    let address = bench.agent.https;
    let stopping = tokio::spawn(bench.agent.stop());
    let closed = async || TcpStream::connect(address).await.is_err();
    wait_for("the port is closed", closed).await;
    engine.go_on();
    assert_eq!(timeout(DEADLINE, running).await.unwrap().unwrap(), 200);
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_are_bounded_and_freed() {
    let mut limits = limits();
    limits.connections_per_address = 2;
    let bench = Bench::start(limits).await;
    let (first, second) = (bench.client.connect().await, bench.client.connect().await);
    let mut third = TcpStream::connect(bench.agent.https).await.unwrap();
    let mut byte = [0; 1];
    let end = timeout(DEADLINE, third.read(&mut byte)).await.unwrap();
    assert!(
        matches!(end, Ok(0) | Err(_)),
        "the third connection is closed at once"
    );
    drop((first, second));
    let client = &bench.client;
    let free = async || {
        let mut probe = TcpStream::connect(bench.agent.https).await.unwrap();
        let closed = timeout(Duration::from_millis(100), probe.read(&mut [0; 1])).await;
        closed.is_err()
    };
    wait_for("a place is free", free).await;
    wait_for("it serves", async || {
        client.get("/livez").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn an_old_processor_is_named_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    furnish(directory.path());
    let proc_dir = directory.path().join("proc");
    fs::create_dir(&proc_dir).unwrap();
    let cpuinfo = "processor\t: 0\nmodel name\t: QEMU Virtual CPU\nflags\t\t: sse2 abm xsave\n";
    fs::write(proc_dir.join("cpuinfo"), cpuinfo).unwrap();
    let mut config = config(directory.path(), limits());
    config.proc_dir = proc_dir;
    let agent = Agent::start(config).await.unwrap();
    let client = Client::of(&agent, directory.path());
    let known = async || client.get("/v1/models/scripted").await.status == 200;
    wait_for("the model is known", known).await;
    let status = client.get("/api/v1/status").await.json();
    assert_eq!(status["engines"][0]["state"], "cannot_run");
    assert_eq!(status["missing"].as_array().unwrap().len(), 1);
    assert!(
        status["missing"][0]
            .as_str()
            .unwrap()
            .contains("lacks avx, avx2")
    );
    assert_eq!(status["problems"][0], status["missing"][0]);
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let answer = client.post("/v1/chat/completions", &chat).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("lacks avx"), "{}", answer.text());
}

#[tokio::test]
async fn a_killed_agent_comes_back_with_its_identity_and_finds_its_engine() {
    let directory = tempfile::tempdir().unwrap();
    furnish(directory.path());
    let engine = ScriptedEngine::start(&directory.path().join("engines/selftest.sock"));
    let mut config = config(directory.path(), limits());
    (config.https_port, config.http_port) = (free_port(), free_port());
    let mut process = Process::agent(&config);
    let before = wait_for_agent(&config, directory.path()).await;
    let fingerprint = before.get("/api/v1/status").await.json()["fingerprint"].clone();
    process.kill();
    let _process = Process::agent(&config);
    let after = wait_for_agent(&config, directory.path()).await;
    assert_eq!(after.token, before.token);
    // The old client still trusts the new agent.
    assert_eq!(before.get("/readyz").await.status, 200);
    assert_eq!(
        after.get("/api/v1/status").await.json()["fingerprint"],
        fingerprint
    );
    drop(engine);
}

async fn wait_for_agent(config: &mnemos_agentd::Config, directory: &Path) -> Client {
    let (https, http) = (
        (config.bind, config.https_port).into(),
        (config.bind, config.http_port).into(),
    );
    wait_for("the agent listens", async || {
        TcpStream::connect(https).await.is_ok()
    })
    .await;
    let client = Client::at(https, http, directory);
    wait_for("the node is ready", async || {
        client.get("/readyz").await.status == 200
    })
    .await;
    client
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
