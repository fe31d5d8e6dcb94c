//! What the agent and its root helper say to each other: one line of JSON each way, then close.
//!
//! ```text
//! -> {"operation":"power_off","actor":"token admin from 192.0.2.7"}
//! <- {"result":"done"}
//! <- {"result":"refused","reason":"malformed","detail":"unknown variant `format_disk`"}
//! <- {"result":"failed","detail":"cannot signal PID 1: Operation not permitted"}
//! ```

use serde::{Deserialize, Serialize};

/// Longest line either side accepts, in bytes without the newline. Today's longest request is under 200.
pub const MAX_LINE_BYTES: usize = 4096;

/// Where the helper listens.
pub const SOCKET_PATH: &str = "/run/mnemos/hostd.sock";

/// One operation, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// On whose behalf the agent asks. The helper writes it to the journal and decides nothing by it.
    pub actor: Actor,
}

/// Everything the helper can do. An operation that needs data gets a struct with `deny_unknown_fields`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Orderly shutdown, then power off.
    PowerOff,
    /// Orderly shutdown, then restart.
    Reboot,
}

impl Operation {
    /// The name in requests and audit lines.
    pub fn name(self) -> &'static str {
        match self {
            Operation::PowerOff => "power_off",
            Operation::Reboot => "reboot",
        }
    }
}

/// A short printable name of who asked. It stands in a journal line, so it cannot hold a line break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Actor(String);

/// Why a string is no [`Actor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActorError {
    /// Nothing to put in the journal.
    #[error("actor is empty")]
    Empty,
    /// More than a journal line should carry.
    #[error("actor is longer than {} bytes", Actor::MAX_BYTES)]
    TooLong,
    /// Would break or disguise the journal line.
    #[error("actor holds a control character")]
    Control,
}

impl Actor {
    /// Longest accepted name, in bytes.
    pub const MAX_BYTES: usize = 128;
}

impl TryFrom<String> for Actor {
    type Error = ActorError;

    fn try_from(name: String) -> Result<Actor, ActorError> {
        if name.is_empty() {
            return Err(ActorError::Empty);
        }
        if name.len() > Actor::MAX_BYTES {
            return Err(ActorError::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(ActorError::Control);
        }
        Ok(Actor(name))
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> String {
        actor.0
    }
}

impl AsRef<str> for Actor {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// Accepted by the kernel or PID 1. A shutdown goes on after this answer.
    Done,
    /// Not attempted.
    Refused {
        /// The class of refusal.
        reason: Refusal,
        /// For the journal and developers.
        detail: String,
    },
    /// Attempted, without success.
    Failed {
        /// The operating system's words.
        detail: String,
    },
}

/// Why a request was not attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The peer's user may not ask.
    NotAllowed,
    /// Not a request this helper knows.
    Malformed,
    /// Too many requests at once.
    Busy,
}

/// A message as a line, newline included.
///
/// # Errors
/// Only if the message cannot be JSON, which none of this module's types can cause.
pub fn to_line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_written() {
        let text = r#"{"operation":"reboot","actor":"token admin from 192.0.2.7"}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(request.operation, Operation::Reboot);
        assert_eq!(to_line(&request).unwrap(), format!("{text}\n").into_bytes());
    }

    #[test]
    fn operations_are_named_as_on_the_wire() {
        for operation in [Operation::PowerOff, Operation::Reboot] {
            let wire = serde_json::to_string(&operation).unwrap();
            assert_eq!(wire, format!("\"{}\"", operation.name()));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            r#"{"operation":"reboot"}"#,
            r#"{"operation":"format_disk","actor":"a"}"#,
            r#"{"operation":"reboot","actor":"a","force":true}"#,
            r#"{"operation":"reboot","actor":""}"#,
            r#"{"operation":"reboot","actor":"a\nmnemos-hostd: audit: forged"}"#,
            r#"{"operation":["reboot"],"actor":"a"}"#,
            r#"{"operation":"reboot","actor":"a"} {}"#,
            "[]",
            "",
        ] {
            assert!(
                serde_json::from_str::<Request>(text).is_err(),
                "accepted {text}"
            );
        }
    }

    #[test]
    fn actor_has_a_bound() {
        assert!(Actor::try_from("a".repeat(Actor::MAX_BYTES)).is_ok());
        assert_eq!(
            Actor::try_from("a".repeat(Actor::MAX_BYTES + 1)),
            Err(ActorError::TooLong)
        );
    }
}
