//! An engine that speaks the real protocol over a real socket and follows a script: the last message's
//! text says what it does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mnemos_engine_protocol::{
    Decoder, ErrorCode, Event, FinishReason, Generate, Info, Prompt, Request, Usage, encode,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{MODEL, wait_for};

/// Dropping it is the engine's sudden death: all its connections close.
pub(crate) struct ScriptedEngine {
    socket: PathBuf,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Generate>,
    /// Ids of requests whose client closed before the answer was complete.
    cancelled: Vec<String>,
    /// Whether self-test prompts get a wrong answer.
    lies: bool,
    /// Opened by [`ScriptedEngine::go_on`].
    gate: Arc<Notify>,
}

impl ScriptedEngine {
    pub(crate) fn start(socket: &Path) -> ScriptedEngine {
        ScriptedEngine::start_as(socket, false)
    }

    /// An engine whose self-test answer is wrong.
    pub(crate) fn start_lying(socket: &Path) -> ScriptedEngine {
        ScriptedEngine::start_as(socket, true)
    }

    fn start_as(socket: &Path, lies: bool) -> ScriptedEngine {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            lies,
            ..Seen::default()
        }));
        let task = tokio::spawn(accept(listener, seen.clone()));
        ScriptedEngine {
            socket: socket.to_owned(),
            seen,
            task,
        }
    }

    /// The requests so far, without those of the self-test.
    pub(crate) fn requests(&self) -> Vec<Generate> {
        let seen = self.seen.lock().unwrap();
        seen.requests
            .iter()
            .filter(|r| !r.id.starts_with("self-test"))
            .cloned()
            .collect()
    }

    /// Waits until `count` requests were cancelled by their client.
    pub(crate) async fn wait_cancelled(&self, count: usize) {
        let cancelled = || self.seen.lock().unwrap().cancelled.len();
        wait_for("the engine's connection is closed", async || {
            cancelled() == count
        })
        .await;
    }

    /// Lets a request for "slow" go on.
    pub(crate) fn go_on(&self) {
        self.seen.lock().unwrap().gate.notify_one();
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, seen: Arc<Mutex<Seen>>) {
    // Connections live in this set, so that they end with the engine.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(serve(stream, seen.clone()));
            }
            Some(done) = connections.join_next() => drop(done),
        }
    }
}

async fn serve(mut stream: UnixStream, seen: Arc<Mutex<Seen>>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    match request {
        Request::Info => drop(send(&mut stream, &Event::Info(info())).await),
        Request::Generate(request) => {
            let id = request.id.clone();
            let script = script(&request, &seen.lock().unwrap());
            seen.lock().unwrap().requests.push(request);
            if !play(&mut stream, &script).await {
                seen.lock().unwrap().cancelled.push(id);
            }
        }
    }
}

async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    loop {
        if let Some(request) = decoder.next_frame().unwrap() {
            return Some(request);
        }
        let count = stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        decoder.push(&buffer[..count]);
    }
}

/// What the engine does for one request.
enum Play {
    Say(Event),
    /// Waits until the client closes.
    Wait,
    /// Waits until the test opens the gate.
    Gate(Arc<Notify>),
    /// Text without end.
    Flood,
    /// Ends the connection.
    Die,
}

fn script(request: &Generate, seen: &Seen) -> Vec<Play> {
    let text = match &request.prompt {
        Prompt::Chat(messages) => messages.last().unwrap().content.as_str(),
        Prompt::Text(text) => text,
    };
    let started = || Play::Say(Event::Started { prompt_tokens: 3 });
    let delta = |text: &str| Play::Say(Event::Delta { text: text.into() });
    let error = |code| {
        Play::Say(Event::Error {
            code,
            message: "scripted refusal".into(),
        })
    };
    match text {
        "die early" => vec![Play::Die],
        "die" => vec![started(), delta("Hel"), Play::Die],
        "hang" => vec![started(), delta("Hel"), Play::Wait],
        "slow" => vec![
            started(),
            Play::Gate(seen.gate.clone()),
            delta("Hello"),
            done(),
        ],
        "silent" => vec![Play::Wait],
        "flood" => vec![started(), Play::Flood],
        "too long" => vec![error(ErrorCode::ContextLengthExceeded)],
        "busy" => vec![error(ErrorCode::Busy)],
        "timeout" => vec![error(ErrorCode::Timeout)],
        "fail" => vec![started(), delta("Hel"), error(ErrorCode::Internal)],
        "garbage" => vec![Play::Say(Event::Info(info()))],
        _ if seen.lies => vec![started(), delta("Goodbye"), done()],
        _ => vec![started(), delta("Hel"), delta("lo"), done()],
    }
}

fn done() -> Play {
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 5,
        prefill_ms: 10.0,
        decode_ms: 40.0,
    };
    Play::Say(Event::Done {
        finish_reason: FinishReason::Stop,
        usage,
    })
}

/// Whether the script was played to its end.
async fn play(stream: &mut UnixStream, script: &[Play]) -> bool {
    for step in script {
        match step {
            Play::Say(event) => {
                if send(stream, event).await.is_err() {
                    return false;
                }
            }
            Play::Wait => {
                let mut byte = [0; 1];
                let closed = stream.read(&mut byte).await;
                assert!(
                    matches!(closed, Ok(0) | Err(_)),
                    "the agent sent more than its request"
                );
                return false;
            }
            Play::Gate(gate) => gate.notified().await,
            Play::Flood => {
                let event = Event::Delta {
                    text: "flood ".repeat(1000),
                };
                while send(stream, &event).await.is_ok() {}
                return false;
            }
            Play::Die => return true,
        }
    }
    true
}

async fn send(stream: &mut UnixStream, event: &Event) -> std::io::Result<()> {
    stream.write_all(&encode(event).unwrap()).await
}

fn info() -> Info {
    Info {
        model: MODEL.into(),
        self_test: true,
        context_tokens: 64,
        engine: "scripted 1".into(),
        model_bytes: 1000,
        load_ms: 5,
        running: 1,
        waiting: 2,
        threads: 1,
    }
}
