//! The agent's side: one blocking call with a deadline. From async code, call it in `spawn_blocking`.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::line::{ReadLineError, read_line};
use crate::protocol::{Refusal, Request, Response, to_line};

/// How long an operation may take. Today's only queue a signal.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The helper is not there.
    #[error("cannot reach the root helper at {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The request could not be written.
    #[error("cannot send the request to the root helper")]
    Send(#[source] io::Error),
    /// No answer came.
    #[error("no answer from the root helper")]
    Receive(#[source] ReadLineError),
    /// Request or answer is not JSON of this protocol.
    #[error("the root helper speaks another protocol")]
    Protocol(#[source] serde_json::Error),
    /// The helper did not attempt it.
    #[error("the root helper refused ({reason:?}): {detail}")]
    Refused {
        /// The class of refusal.
        reason: Refusal,
        /// Details.
        detail: String,
    },
    /// The helper attempted it without success.
    #[error("the root helper failed: {0}")]
    Failed(String),
}

/// Asks the helper at `socket` for one operation and waits for the outcome.
///
/// # Errors
/// Says whether the helper was not reached, refused, or failed.
pub fn call(socket: &Path, request: &Request) -> Result<(), ClientError> {
    let mut stream = UnixStream::connect(socket).map_err(|source| ClientError::Connect {
        path: socket.to_path_buf(),
        source,
    })?;
    stream
        .set_write_timeout(Some(DEADLINE))
        .map_err(ClientError::Send)?;
    stream
        .write_all(&to_line(request).map_err(ClientError::Protocol)?)
        .map_err(ClientError::Send)?;
    let line = read_line(&mut stream, DEADLINE).map_err(ClientError::Receive)?;
    match serde_json::from_slice(&line).map_err(ClientError::Protocol)? {
        Response::Done => Ok(()),
        Response::Refused { reason, detail } => Err(ClientError::Refused { reason, detail }),
        Response::Failed { detail } => Err(ClientError::Failed(detail)),
    }
}
