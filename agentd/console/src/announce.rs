//! What is said on serial, and when: each thing once, `MNEMOS-READY` last.

use serde::Serialize;

use crate::picture::{Agent, Picture};
use crate::status::Status;

/// How long a ready node waits for its first address before it says ready without one. DHCP with a link that
/// must train first takes a few seconds.
const ADDRESS_GRACE_MS: u64 = 15_000;

/// One message for serial consoles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A JSON object for programs, without line end.
    Json(String),
    /// Lines for people.
    People(Vec<String>),
}

/// Remembers what has been said.
#[derive(Debug, Default)]
pub struct Announcer {
    addresses: Vec<String>,
    self_test: String,
    cannot_serve: Option<String>,
    problems: Vec<String>,
    ready_since_ms: Option<u64>,
    said_ready: Option<Vec<String>>,
}

/// The stages this program reports; the others are PID 1's.
#[derive(Serialize)]
struct Stage<'a> {
    mnemos: &'static str,
    stage: &'static str,
    state: &'static str,
    uptime_ms: u64,
    detail: &'a str,
}

#[derive(Serialize)]
struct CannotServe<'a> {
    mnemos: &'static str,
    reason: &'a str,
    uptime_ms: u64,
}

#[derive(Serialize)]
struct Ready<'a> {
    mnemos: &'static str,
    uptime_ms: u64,
    name: &'a str,
    urls: &'a [String],
    fingerprint: &'a str,
    token: &'a str,
    model: &'a str,
    decode_tokens_per_s: Option<f64>,
    prefill_tokens_per_s: Option<f64>,
}

impl Announcer {
    /// What `picture` adds to what was said before.
    pub fn observe(&mut self, picture: &Picture) -> Vec<Message> {
        let mut messages = self.new_problems(picture);
        if let Agent::Answers(status) = &picture.agent {
            messages.extend(self.network(picture, status));
            messages.extend(self.self_test(picture, status));
            messages.extend(self.cannot_serve(picture, status));
            messages.extend(self.ready(picture, status));
        }
        messages
    }

    fn new_problems(&mut self, picture: &Picture) -> Vec<Message> {
        let problems = picture.problems();
        let fresh: Vec<String> = problems
            .iter()
            .filter(|problem| !self.problems.iter().any(|said| said == *problem))
            .map(|problem| format!("  ! {problem}"))
            .collect();
        self.problems = problems.into_iter().map(str::to_owned).collect();
        if fresh.is_empty() {
            Vec::new()
        } else {
            vec![Message::People(fresh)]
        }
    }

    fn network(&mut self, picture: &Picture, status: &Status) -> Option<Message> {
        let now: Vec<String> = status
            .addresses
            .iter()
            .map(|address| format!("{} {}", address.interface, address.address))
            .collect();
        if now.is_empty() || now == self.addresses {
            return None;
        }
        let detail = now.join(", ");
        self.addresses = now;
        stage(picture, "network", "ok", &detail)
    }

    fn self_test(&mut self, picture: &Picture, status: &Status) -> Option<Message> {
        let test = &status.self_test;
        if test.state == self.self_test {
            return None;
        }
        self.self_test.clone_from(&test.state);
        let detail = test.detail.as_deref();
        match test.state.as_str() {
            "running" => stage(picture, "self-test", "start", detail.unwrap_or_default()),
            "passed" => stage(
                picture,
                "self-test",
                "ok",
                &format!("{} cases{}", test.cases, rates(status)),
            ),
            "failed" => stage(
                picture,
                "self-test",
                "failed",
                detail.unwrap_or("no detail"),
            ),
            _ => None,
        }
    }

    fn cannot_serve(&mut self, picture: &Picture, status: &Status) -> Vec<Message> {
        let engine = status
            .engines
            .iter()
            .find(|engine| engine.state == "cannot_run");
        let reason = engine.map(|engine| {
            engine
                .detail
                .clone()
                .unwrap_or_else(|| "no detail".to_owned())
        });
        if reason == self.cannot_serve {
            return Vec::new();
        }
        self.cannot_serve.clone_from(&reason);
        let Some(reason) = reason else {
            return Vec::new();
        };
        let mut lines = vec![format!("  This node cannot serve models: {reason}")];
        lines.extend(access(status));
        let json = CannotServe {
            mnemos: "cannot-serve",
            reason: &reason,
            uptime_ms: picture.uptime_ms,
        };
        [Some(Message::People(lines)), to_json(&json)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn ready(&mut self, picture: &Picture, status: &Status) -> Vec<Message> {
        if !status.ready {
            self.ready_since_ms = None;
            return Vec::new();
        }
        let since = *self.ready_since_ms.get_or_insert(picture.uptime_ms);
        if status.urls.is_empty() && picture.uptime_ms.saturating_sub(since) < ADDRESS_GRACE_MS {
            return Vec::new();
        }
        let mut messages = Vec::new();
        if self.said_ready.as_ref() != Some(&status.urls) {
            let mut lines = vec![format!("  {} is ready.", status.name)];
            lines.extend(access(status));
            messages.push(Message::People(lines));
        }
        if self.said_ready.is_none() {
            messages.extend(to_json(&Ready::from_status(status, picture.uptime_ms)));
        }
        self.said_ready = Some(status.urls.clone());
        messages
    }
}

impl Ready<'_> {
    fn from_status(status: &Status, uptime_ms: u64) -> Ready<'_> {
        Ready {
            mnemos: "MNEMOS-READY",
            uptime_ms,
            name: &status.name,
            urls: &status.urls,
            fingerprint: &status.fingerprint,
            token: &status.token,
            model: status
                .engines
                .iter()
                .find_map(|engine| engine.model.as_deref())
                .unwrap_or_default(),
            decode_tokens_per_s: status.self_test.decode_tokens_per_s,
            prefill_tokens_per_s: status.self_test.prefill_tokens_per_s,
        }
    }
}

/// How to get in: the same three facts as on the screen.
fn access(status: &Status) -> Vec<String> {
    let mut lines: Vec<String> = status
        .urls
        .iter()
        .map(|url| format!("  Open   {url}"))
        .collect();
    if lines.is_empty() {
        lines.push("  Open   no address yet: connect a network cable".to_owned());
    }
    lines.push(format!("  Token  {}", status.token));
    lines.push(format!("  CA     {}", status.fingerprint));
    lines
}

fn rates(status: &Status) -> String {
    let test = &status.self_test;
    match (test.prefill_tokens_per_s, test.decode_tokens_per_s) {
        (Some(prefill), Some(decode)) => {
            format!(", prefill {prefill:.1} tokens/s, decode {decode:.1} tokens/s")
        }
        _ => String::new(),
    }
}

fn stage(
    picture: &Picture,
    stage: &'static str,
    state: &'static str,
    detail: &str,
) -> Option<Message> {
    to_json(&Stage {
        mnemos: "stage",
        stage,
        state,
        uptime_ms: picture.uptime_ms,
        detail,
    })
}

/// `None` only for a value that has no JSON, which none of these types can hold.
fn to_json(value: &impl Serialize) -> Option<Message> {
    serde_json::to_string(value).ok().map(Message::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Address, Engine, SelfTest};

    fn ready_status() -> Status {
        Status {
            name: "mnemos-a1b2c3".into(),
            ready: true,
            addresses: vec![Address {
                interface: "ens3".into(),
                address: "10.0.2.15".into(),
            }],
            urls: vec!["https://10.0.2.15/".into()],
            fingerprint: "SHA256:AA:BB".into(),
            token: "secret".into(),
            engines: vec![Engine {
                state: "ready".into(),
                model: Some("m".into()),
                ..Engine::default()
            }],
            self_test: SelfTest {
                state: "passed".into(),
                cases: 3,
                prefill_tokens_per_s: Some(800.0),
                decode_tokens_per_s: Some(200.5),
                ..SelfTest::default()
            },
            ..Status::default()
        }
    }

    fn picture(uptime_ms: u64, status: Status) -> Picture {
        Picture {
            uptime_ms,
            agent: Agent::Answers(Box::new(status)),
            ..Picture::default()
        }
    }

    fn texts(messages: &[Message]) -> Vec<String> {
        let text = |message: &Message| match message {
            Message::Json(json) => json.clone(),
            Message::People(lines) => lines.join("\n"),
        };
        messages.iter().map(text).collect()
    }

    #[test]
    fn ready_comes_last_and_once() {
        let mut announcer = Announcer::default();
        let said = texts(&announcer.observe(&picture(5000, ready_status())));
        assert_eq!(
            said,
            [
                r#"{"mnemos":"stage","stage":"network","state":"ok","uptime_ms":5000,"detail":"ens3 10.0.2.15"}"#,
                r#"{"mnemos":"stage","stage":"self-test","state":"ok","uptime_ms":5000,"detail":"3 cases, prefill 800.0 tokens/s, decode 200.5 tokens/s"}"#,
                "  mnemos-a1b2c3 is ready.\n  Open   https://10.0.2.15/\n  Token  secret\n  CA     SHA256:AA:BB",
                r#"{"mnemos":"MNEMOS-READY","uptime_ms":5000,"name":"mnemos-a1b2c3","urls":["https://10.0.2.15/"],"fingerprint":"SHA256:AA:BB","token":"secret","model":"m","decode_tokens_per_s":200.5,"prefill_tokens_per_s":800.0}"#,
            ]
        );
        assert_eq!(announcer.observe(&picture(6000, ready_status())), []);
    }

    #[test]
    fn ready_waits_a_while_for_an_address_and_then_goes_without() {
        let mut announcer = Announcer::default();
        let alone = Status {
            addresses: vec![],
            urls: vec![],
            ..ready_status()
        };
        assert_eq!(
            announcer.observe(&picture(5000, alone.clone())).len(),
            1,
            "the self-test stage"
        );
        assert_eq!(announcer.observe(&picture(19_999, alone.clone())), []);
        let said = texts(&announcer.observe(&picture(20_000, alone)));
        assert!(said[0].contains("no address yet"));
        assert!(said[1].starts_with(r#"{"mnemos":"MNEMOS-READY","uptime_ms":20000"#));
        assert!(said[1].contains(r#""urls":[]"#));

        let later = texts(&announcer.observe(&picture(60_000, ready_status())));
        assert!(later[0].contains(r#""stage":"network""#));
        assert!(later[1].contains("https://10.0.2.15/"));
        assert_eq!(later.len(), 2, "ready is not said twice");
    }

    #[test]
    fn says_why_it_cannot_serve() {
        let engine = Engine {
            state: "cannot_run".into(),
            detail: Some("no AVX2".into()),
            ..Engine::default()
        };
        let status = Status {
            ready: false,
            engines: vec![engine],
            self_test: SelfTest::default(),
            ..ready_status()
        };
        let mut announcer = Announcer::default();
        let said = texts(&announcer.observe(&picture(7000, status.clone())));
        assert_eq!(
            said.last().unwrap(),
            r#"{"mnemos":"cannot-serve","reason":"no AVX2","uptime_ms":7000}"#
        );
        assert!(said[1].contains("cannot serve models: no AVX2"));
        assert_eq!(announcer.observe(&picture(8000, status)), []);
    }

    #[test]
    fn a_problem_is_said_when_it_appears() {
        let status = Status {
            problems: vec!["memory is low: add some".into()],
            ..Status::default()
        };
        let mut announcer = Announcer::default();
        assert_eq!(
            texts(&announcer.observe(&picture(1, status.clone()))),
            ["  ! memory is low: add some"]
        );
        assert_eq!(announcer.observe(&picture(2, status)), []);
    }

    #[test]
    fn self_test_states_become_stages() {
        let mut announcer = Announcer::default();
        let mut status = Status::default();
        let mut states = Vec::new();
        for state in ["pending", "running", "running", "failed"] {
            status.self_test.state = state.into();
            states.extend(texts(&announcer.observe(&picture(1, status.clone()))));
        }
        assert_eq!(states.len(), 2);
        assert!(
            states[0].contains(r#""state":"start""#) && states[1].contains(r#""state":"failed""#)
        );
    }
}
