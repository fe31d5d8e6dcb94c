//! A client of one node's API over TLS that trusts this node's CA and nothing else.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::fingerprint;
use crate::machine::{HTTP_PORT, HTTPS_PORT};
use crate::marker::Ready;
use crate::vm::Vm;

/// The whole answer of a node on a slow machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// A CA certificate is about 600 bytes.
const CA_LIMIT_BYTES: u64 = 64 << 10;

/// A node's CA certificate, checked against the fingerprint on the node's console.
#[derive(Debug, Clone)]
pub struct NodeCa {
    /// As served.
    pub pem: String,
    /// `SHA256:AB:CD:...`
    pub fingerprint: String,
}

/// A node's API, verified and with the token of this boot.
#[derive(Debug)]
pub struct NodeClient {
    agent: ureq::Agent,
    url: String,
    token: String,
    ca: NodeCa,
}

/// A finished chat completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The answer.
    pub text: String,
    /// Why it ended.
    pub finish_reason: String,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// From sending the request to the first text.
    pub first_token: Duration,
    /// From the first text to the last.
    pub decode: Duration,
}

impl Completion {
    /// Decoded tokens per second, `None` when one token says nothing about speed.
    #[must_use]
    pub fn tokens_per_s(&self) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        let steps = u32::try_from(self.completion_tokens.checked_sub(1)?).ok()?;
        (steps > 0 && seconds > 0.0).then(|| f64::from(steps) / seconds)
    }
}

impl NodeClient {
    /// Fetches the CA of a ready node over plain HTTP, compares it with the console, and then uses only TLS.
    ///
    /// # Errors
    /// When the node does not answer or shows another CA than its console.
    pub fn connect(vm: &Vm, ready: &Ready) -> Result<Self> {
        let ca = fetch_ca(vm.port(HTTP_PORT)?, &ready.fingerprint)?;
        let root = Certificate::from_pem(ca.pem.as_bytes())?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&[root]))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .timeout_global(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!("https://127.0.0.1:{}", vm.port(HTTPS_PORT)?);
        Ok(Self {
            agent,
            url,
            token: ready.token.clone(),
            ca,
        })
    }

    /// Where the node answers on this host, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The node's CA.
    #[must_use]
    pub fn ca(&self) -> &NodeCa {
        &self.ca
    }

    /// `GET path` with the token.
    ///
    /// # Errors
    /// When the node does not answer 200 with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let response = request
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        let mut response = response.with_context(|| format!("cannot get {path} of the node"))?;
        let body = response.body_mut().read_to_string()?;
        if response.status() != 200 {
            bail!("the node answered {} to {path}: {body}", response.status());
        }
        serde_json::from_str(&body).with_context(|| format!("{path} is not JSON: {body}"))
    }

    /// One streamed chat completion. `text` sees each piece as it arrives.
    ///
    /// # Errors
    /// When the node refuses it or the stream ends early.
    pub fn chat(
        &self,
        model: &str,
        prompt: &str,
        max_tokens: u32,
        mut text: impl FnMut(&str),
    ) -> Result<Completion> {
        let request = json!({
            "model": model,
            "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": { "include_usage": true },
        });
        let sent = Instant::now();
        let post = self.agent.post(format!("{}/v1/chat/completions", self.url));
        let post = post.header("authorization", format!("Bearer {}", self.token));
        let post = post.header("content-type", "application/json");
        let mut response = post
            .send(request.to_string())
            .context("cannot ask the node")?;
        if response.status() != 200 {
            let body = response.body_mut().read_to_string()?;
            bail!("the node answered {}: {body}", response.status());
        }
        read_stream(
            BufReader::new(response.body_mut().as_reader()),
            sent,
            &mut text,
        )
    }
}

/// Reads server-sent events of a chat completion up to `[DONE]`.
fn read_stream(
    stream: impl BufRead,
    sent: Instant,
    text: &mut impl FnMut(&str),
) -> Result<Completion> {
    let mut answer = String::new();
    let mut finish_reason = None;
    let mut completion_tokens = None;
    let mut first = None;
    let mut last = sent;
    for line in stream.lines() {
        let line = line.context("the stream broke off")?;
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            continue;
        };
        if data == "[DONE]" {
            let first = first.ok_or_else(|| anyhow!("the answer is empty"))?;
            return Ok(Completion {
                text: answer,
                finish_reason: finish_reason
                    .ok_or_else(|| anyhow!("the answer has no finish_reason"))?,
                completion_tokens: completion_tokens
                    .ok_or_else(|| anyhow!("the answer has no usage"))?,
                first_token: first - sent,
                decode: last - first,
            });
        }
        let chunk: Value =
            serde_json::from_str(data).with_context(|| format!("not JSON: {data}"))?;
        if let Some(error) = chunk.get("error") {
            bail!("the node ended the answer: {error}");
        }
        let choice = &chunk["choices"][0];
        if let Some(piece) = choice["delta"]["content"]
            .as_str()
            .filter(|piece| !piece.is_empty())
        {
            last = Instant::now();
            first.get_or_insert(last);
            answer.push_str(piece);
            text(piece);
        }
        finish_reason = choice["finish_reason"]
            .as_str()
            .map(str::to_owned)
            .or(finish_reason);
        completion_tokens = chunk["usage"]["completion_tokens"]
            .as_u64()
            .or(completion_tokens);
    }
    bail!("the stream ended without [DONE] after {answer:?}")
}

/// How long one attempt to reach a booting node may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(15);

/// Whether the node answers over TLS that its own CA vouches for. The CA comes over plain HTTP and is not
/// compared with the console: this only measures time.
#[must_use]
pub fn answers_verified(https_port: u16, http_port: u16) -> bool {
    let answer = || -> Result<()> {
        let url = format!("http://127.0.0.1:{http_port}/ca.crt");
        let pem = attempt(None)
            .get(&url)
            .call()?
            .body_mut()
            .read_to_string()?;
        let root = Certificate::from_pem(pem.as_bytes())?;
        attempt(Some(root))
            .get(format!("https://127.0.0.1:{https_port}/livez"))
            .call()?;
        Ok(())
    };
    answer().is_ok()
}

/// Whether something answers 200 over plain HTTP.
#[must_use]
pub fn answers_plain(port: u16) -> bool {
    attempt(None)
        .get(format!("http://127.0.0.1:{port}/"))
        .call()
        .is_ok()
}

fn attempt(root: Option<Certificate<'static>>) -> ureq::Agent {
    let roots = RootCerts::new_with_certs(root.as_slice());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(roots)
        .build();
    let config = ureq::Agent::config_builder().tls_config(tls).proxy(None);
    config
        .timeout_global(Some(ATTEMPT_LIMIT))
        .build()
        .new_agent()
}

/// Where a plain HTTP address redirects to.
///
/// # Errors
/// When it does not redirect.
pub fn redirect_of(url: &str) -> Result<String> {
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(ANSWER_LIMIT))
        .build()
        .new_agent();
    let response = agent
        .get(url)
        .call()
        .with_context(|| format!("cannot get {url}"))?;
    let location = response
        .headers()
        .get("location")
        .and_then(|location| location.to_str().ok());
    location
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("{url} answered {} without a location", response.status()))
}

fn fetch_ca(port: u16, expected: &str) -> Result<NodeCa> {
    let url = format!("http://127.0.0.1:{port}/ca.crt");
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(ANSWER_LIMIT))
        .build()
        .new_agent();
    let mut response = agent
        .get(&url)
        .call()
        .with_context(|| format!("cannot get {url}"))?;
    let pem = response
        .body_mut()
        .with_config()
        .limit(CA_LIMIT_BYTES)
        .read_to_string()?;
    let certificate = Certificate::from_pem(pem.as_bytes())
        .with_context(|| format!("{url} is not a certificate"))?;
    let fingerprint = fingerprint::of_der(certificate.der());
    if !fingerprint.eq_ignore_ascii_case(expected) {
        bail!(
            "the CA at {url} is {fingerprint}, but the node's console shows {expected}: do not trust this address"
        );
    }
    Ok(NodeCa { pem, fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &str) -> Result<Completion> {
        read_stream(stream.as_bytes(), Instant::now(), &mut |_| {})
    }

    #[test]
    fn a_whole_stream() {
        let completion = read(concat!(
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n: ping\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"MNE\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"MOS\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":4}}\n\ndata: [DONE]\n\n"
        ))
        .unwrap();
        assert_eq!(completion.text, "MNEMOS");
        assert_eq!(completion.finish_reason, "stop");
        assert_eq!(completion.completion_tokens, 4);
    }

    #[test]
    fn a_broken_stream_is_an_error() {
        let cut = read("data: {\"choices\":[{\"delta\":{\"content\":\"MNE\"}}]}\n\n")
            .unwrap_err()
            .to_string();
        assert!(
            cut.contains("without [DONE]") && cut.contains("MNE"),
            "{cut}"
        );
        let failed = read("data: {\"error\":{\"message\":\"engine ended\"}}\n\n")
            .unwrap_err()
            .to_string();
        assert!(failed.contains("engine ended"), "{failed}");
        assert!(read("data: {\n\n").is_err());
    }
}
