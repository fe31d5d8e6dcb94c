//! A worker process and its clients.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use mnemos_engine_protocol::{
    Decoder, Event, FinishReason, Generate, Info, Prompt, Request, Sampling, encode,
};

/// Long enough that its end means a bug, also beside other tests on two cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A folder for one test, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("neuron-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Dropping it kills the process.
pub(crate) struct Worker {
    child: Child,
    socket: PathBuf,
    stderr: Arc<Mutex<String>>,
    /// What the worker told PID 1.
    pub(crate) notified: Vec<String>,
}

/// The worker's program, with these arguments.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the tests that starts processes"
)]
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mnemos-neuron"));
    command.args(arguments).stdin(Stdio::null());
    command
}

impl Worker {
    /// Starts a worker for the model in `folder` and waits for READY=1.
    pub(crate) fn start(folder: &Folder, extra: &[&str]) -> Self {
        let socket = folder.path().join("engine.sock");
        let notify = folder.path().join("notify.sock");
        let _ = std::fs::remove_file(&notify);
        let notifications = UnixDatagram::bind(&notify).unwrap();
        notifications.set_read_timeout(Some(DEADLINE)).unwrap();
        let (dir, path) = (folder.path().to_str().unwrap(), socket.to_str().unwrap());
        let mut command = program(&["--instance", "test", "--model-dir", dir, "--socket", path]);
        command
            .args(extra)
            .env("NOTIFY_SOCKET", &notify)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().unwrap(), stderr.clone());
        let mut worker = Self {
            child,
            socket,
            stderr,
            notified: Vec::new(),
        };
        while worker.notified.last().is_none_or(|last| last != "READY=1") {
            let mut buffer = [0; 512];
            let count = notifications.recv(&mut buffer).unwrap_or_else(|error| {
                panic!(
                    "no READY=1: {error}; {:?}\n{}",
                    worker.notified,
                    worker.stderr()
                )
            });
            worker
                .notified
                .push(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
        worker
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a log line.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        self.wait_for(&format!("a log line with {part}"), || {
            self.stderr()
                .lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        })
    }

    /// Waits for a condition.
    #[expect(
        clippy::disallowed_methods,
        reason = "polls a condition until a deadline"
    )]
    pub(crate) fn wait_for<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "waited for {what}:\n{}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory in use.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Asks the process to stop, as PID 1 does.
    #[expect(clippy::disallowed_methods, reason = "std cannot send SIGTERM")]
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, request: &Request) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Client {
            stream,
            decoder: Decoder::default(),
        };
        client.stream.write_all(&encode(request).unwrap()).unwrap();
        client
    }

    /// What the worker says about itself.
    pub(crate) fn info(&self) -> Info {
        match self.send(&Request::Info).next() {
            Some(Event::Info(info)) => info,
            other => panic!("not info: {other:?}"),
        }
    }

    /// A greedy continuation of raw text.
    pub(crate) fn generate(&self, text: &str, change: impl FnOnce(&mut Generate)) -> Client {
        self.send(&Request::Generate(greedy(
            Prompt::Text(text.into()),
            change,
        )))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stderr: ChildStderr, into: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut all = into.lock().unwrap();
            all.push_str(&line);
            all.push('\n');
        }
    });
}

/// A greedy request.
pub(crate) fn greedy(prompt: Prompt, change: impl FnOnce(&mut Generate)) -> Generate {
    let sampling = Sampling {
        temperature: 0.0,
        top_p: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
    };
    let mut generate = Generate {
        id: "test".into(),
        prompt,
        sampling,
        stop: Vec::new(),
        max_tokens: Some(16),
    };
    change(&mut generate);
    generate
}

/// One connection. Dropping it closes it.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

impl Client {
    /// The next event; `None` when the worker has closed.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next_frame().unwrap() {
                return Some(event);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no event: {error}"),
            }
        }
    }

    /// All events up to the end.
    pub(crate) fn all(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The text of an answer, its end, and the number of generated tokens.
    pub(crate) fn answer(self) -> (String, FinishReason, u32) {
        let events = self.all();
        let text = events.iter().filter_map(|event| match event {
            Event::Delta { text } => Some(text.as_str()),
            _ => None,
        });
        let text = text.collect();
        match events.last() {
            Some(Event::Done {
                finish_reason,
                usage,
            }) => (text, *finish_reason, usage.completion_tokens),
            other => panic!("no Done after {text:?}: {other:?}"),
        }
    }

    /// The error that ends the connection.
    pub(crate) fn error(self) -> (mnemos_engine_protocol::ErrorCode, String) {
        match self.all().pop() {
            Some(Event::Error { code, message }) => (code, message),
            other => panic!("no error: {other:?}"),
        }
    }
}
