//! The official OpenAI client for Python, in a virtual environment of the cache, trusting one node's CA.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use mnemos_image::host::{self, Needed};
use mnemos_image::{Cache, cmd, progress, sha256};
use mnemos_qemu::NodeClient;
use serde_json::{Value, json};

const FOR_CLIENT: &[Needed] = &[Needed {
    file: "/var/lib/dpkg/info/python3-venv.list",
    package: "python3-venv",
}];
const REQUIREMENTS: &str = "tests/clients/requirements.txt";
const DRIVER: &str = "tests/clients/openai_client.py";

/// A running client, bound to one node.
#[derive(Debug)]
pub struct OpenAi {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What the node refused, as the client library shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; `None` inside a stream.
    pub status: Option<u64>,
    /// The error's `code`.
    pub code: Option<String>,
    /// The error's `param`.
    pub param: Option<String>,
    /// The error's `message`.
    pub message: String,
    /// The library's exception.
    pub class: String,
}

impl OpenAi {
    /// Starts a client that trusts exactly the CA that `node` checked.
    ///
    /// # Errors
    /// When the client library cannot be installed or started.
    pub fn start(node: &NodeClient, token: &str) -> Result<Self> {
        let checkout = mnemos_image::checkout()?;
        let python = environment(&checkout)?;
        let ca = Cache::open()?.dir("tests")?.join("ca.crt");
        fs::write(&ca, &node.ca().pem).with_context(|| format!("cannot write {}", ca.display()))?;
        let mut command = cmd::new(python);
        command
            .arg(checkout.join(DRIVER))
            .arg(node.url())
            .arg(&ca)
            .arg(token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the OpenAI client")?;
        let stdin = child
            .stdin
            .take()
            .ok_or_else(|| anyhow!("the client has no input"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("the client has no output"))?;
        Ok(Self {
            child,
            stdin,
            answers: BufReader::new(stdout).lines(),
        })
    }

    /// One operation of the driver; `event` sees each piece of text when the operation asks for events.
    ///
    /// # Errors
    /// When the client itself fails. A refusal of the node is an answer.
    pub fn ask(
        &mut self,
        operation: &Value,
        mut event: impl FnMut(&str) -> Result<()>,
    ) -> Result<Result<Value, Refusal>> {
        writeln!(self.stdin, "{operation}").context("the OpenAI client is gone")?;
        loop {
            let line = self
                .answers
                .next()
                .ok_or_else(|| anyhow!("the OpenAI client ended; its error is above"))??;
            let mut answer: Value =
                serde_json::from_str(&line).with_context(|| format!("the client said {line:?}"))?;
            if let Some(text) = answer["event"].as_str() {
                event(text)?;
            } else if let Some(error) = answer.get("error") {
                return Ok(Err(refusal(error)));
            } else {
                return Ok(Ok(answer["result"].take()));
            }
        }
    }

    /// One operation that the node must do.
    ///
    /// # Errors
    /// When the node refuses it or the client fails.
    pub fn must(&mut self, operation: &Value) -> Result<Value> {
        match self.ask(operation, |_| Ok(()))? {
            Ok(result) => Ok(result),
            Err(refusal) => bail!("{operation} was refused: {refusal:?}"),
        }
    }

    /// One operation that the node must refuse.
    ///
    /// # Errors
    /// When the node does it or the client fails.
    pub fn refused(&mut self, operation: &Value) -> Result<Refusal> {
        match self.ask(operation, |_| Ok(()))? {
            Err(refusal) => Ok(refusal),
            Ok(result) => bail!("{operation} was not refused but answered: {result}"),
        }
    }

    /// A plain HTTP request with the token. Returns status and body.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn http(&mut self, method: &str, path: &str, body: &str) -> Result<(u64, String)> {
        let answer =
            self.must(&json!({ "op": "http", "method": method, "path": path, "body": body }))?;
        http_answer(&answer)
    }
}

/// Status and body of the driver's `http` answer.
///
/// # Errors
/// When the driver's answer has another shape.
pub fn http_answer(answer: &Value) -> Result<(u64, String)> {
    let status = answer["status"].as_u64();
    let body = answer["body"].as_str();
    status
        .zip(body.map(str::to_owned))
        .ok_or_else(|| anyhow!("not an HTTP answer: {answer}"))
}

impl Drop for OpenAi {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, but still to reap.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refusal(error: &Value) -> Refusal {
    let text = |name: &str| error[name].as_str().map(str::to_owned);
    Refusal {
        status: error["status"].as_u64(),
        code: text("code"),
        param: text("param"),
        message: text("message").unwrap_or_default(),
        class: text("class").unwrap_or_default(),
    }
}

/// The environment's Python, installing the pinned packages when they are not there yet.
fn environment(checkout: &Path) -> Result<PathBuf> {
    let requirements = checkout.join(REQUIREMENTS);
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = Cache::open()?
        .dir("python")?
        .join(format!("openai-{}", &sha256(&wanted)[..16]));
    let python = folder.join("bin/python3");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    host::ensure(FOR_CLIENT)?;
    progress::step("install the OpenAI client", |step| {
        let mut venv = cmd::new("/usr/bin/python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        cmd::run(step, venv)?;
        let mut pip = cmd::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary=:all:",
        ]);
        pip.arg("--requirement").arg(&requirements);
        cmd::run(step, pip)
    })?;
    fs::write(&complete, []).with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(python)
}
