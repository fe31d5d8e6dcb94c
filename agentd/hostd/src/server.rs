//! Accepts, checks the peer, performs, answers, and writes the audit line.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::UCred;
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;

use crate::error::chain;
use crate::line::{ReadLineError, read_line};
use crate::power;
use crate::protocol::{Operation, Refusal, Request, Response, to_line};

/// Connections served at the same time; the agent needs one, a stuck one must not lock out the next.
const MAX_CONNECTIONS: usize = 8;

/// What the helper acts on and whom it obeys.
#[derive(Debug, Clone)]
pub struct Config {
    /// Users that may ask.
    pub allowed_uids: Vec<u32>,
    /// Who gets the shutdown signals: PID 1 on a node.
    pub init: Pid,
    /// How long a peer may take to send its request, and to take the answer.
    pub peer_deadline: Duration,
}

/// Serves until accept(2) fails for good, which means that the listening socket is gone.
///
/// # Errors
/// The error of accept(2).
pub fn serve(listener: &UnixListener, config: &Config) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The peer gave up between connect and accept.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match Slot::take(&open) {
            Some(slot) => serve_in_thread(stream, config.clone(), slot),
            None => answer(
                stream,
                config,
                None,
                &refusal(Refusal::Busy, "too many requests at once"),
            ),
        }
    }
}

/// One of [`MAX_CONNECTIONS`], given back when dropped.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Option<Slot> {
        let taken = open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < MAX_CONNECTIONS).then_some(count + 1)
        });
        taken.ok().map(|_| Slot(Arc::clone(open)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve_in_thread(stream: UnixStream, config: Config, slot: Slot) {
    let thread = thread::Builder::new().name("request".into());
    let spawned = thread.spawn(move || {
        let _slot = slot;
        serve_connection(stream, &config);
    });
    if let Err(error) = spawned {
        eprintln!("cannot start a thread for a request: {error}");
    }
}

/// One connection: one request, one answer, one audit line.
fn serve_connection(mut stream: UnixStream, config: &Config) {
    let (request, response) = match receive(&mut stream, config) {
        Ok(request) => {
            let response = perform(request.operation, config);
            (Some(request), response)
        }
        Err(refused) => (None, refused),
    };
    answer(stream, config, request.as_ref(), &response);
}

/// The request of an allowed peer. Nothing is read from anybody else.
fn receive(stream: &mut UnixStream, config: &Config) -> Result<Request, Response> {
    let peer = socket_peercred(&*stream)
        .map_err(|errno| refusal(Refusal::NotAllowed, format!("peer is unknown: {errno}")))?;
    let uid = peer.uid.as_raw();
    if !config.allowed_uids.contains(&uid) {
        return Err(refusal(
            Refusal::NotAllowed,
            format!("user {uid} may not ask"),
        ));
    }
    let line = read_line(stream, config.peer_deadline).map_err(|error| malformed(&error))?;
    serde_json::from_slice(&line).map_err(|error| refusal(Refusal::Malformed, error.to_string()))
}

fn malformed(error: &ReadLineError) -> Response {
    refusal(Refusal::Malformed, chain(error))
}

fn refusal(reason: Refusal, detail: impl Into<String>) -> Response {
    Response::Refused {
        reason,
        detail: detail.into(),
    }
}

fn perform(operation: Operation, config: &Config) -> Response {
    match operation {
        Operation::PowerOff | Operation::Reboot => match power::signal_init(config.init, operation)
        {
            Ok(()) => Response::Done,
            Err(error) => Response::Failed {
                detail: chain(&error),
            },
        },
    }
}

/// Audit first: the answer may never arrive.
fn answer(mut stream: UnixStream, config: &Config, request: Option<&Request>, response: &Response) {
    eprintln!(
        "{}",
        audit_line(socket_peercred(&stream).ok(), request, response)
    );
    let sent = to_line(response).map_err(io::Error::from).and_then(|line| {
        stream.set_write_timeout(Some(config.peer_deadline))?;
        stream.write_all(&line)
    });
    if let Err(error) = sent {
        eprintln!("cannot answer a request: {error}");
    }
}

/// Who asked for what, and what became of it. Foreign text is quoted with its control characters escaped.
fn audit_line(peer: Option<UCred>, request: Option<&Request>, response: &Response) -> String {
    let who = match peer {
        Some(peer) => format!(
            "uid {} pid {}",
            peer.uid.as_raw(),
            peer.pid.as_raw_nonzero()
        ),
        None => "an unknown peer".to_owned(),
    };
    let what = match request {
        Some(request) => format!(
            "{} for {:?}",
            request.operation.name(),
            request.actor.as_ref()
        ),
        None => "no valid request".to_owned(),
    };
    let result = match response {
        Response::Done => "done".to_owned(),
        Response::Refused { reason, detail } => format!("refused, {reason:?}: {detail:?}"),
        Response::Failed { detail } => format!("failed: {detail:?}"),
    };
    format!("audit: {who}: {what}: {result}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Actor;

    #[test]
    fn audit_lines_hold_who_what_and_result() {
        let actor = Actor::try_from("token admin".to_owned()).unwrap();
        let request = Request {
            operation: Operation::Reboot,
            actor,
        };
        assert_eq!(
            audit_line(None, Some(&request), &Response::Done),
            "audit: an unknown peer: reboot for \"token admin\": done"
        );
        let refused = refusal(Refusal::Malformed, "line one\nline two");
        assert_eq!(
            audit_line(None, None, &refused),
            "audit: an unknown peer: no valid request: refused, Malformed: \"line one\\nline two\""
        );
    }
}
