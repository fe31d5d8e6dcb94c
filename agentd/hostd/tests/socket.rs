//! Real sockets, real peer credentials, a real process that gets the signals.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use mnemos_hostd::client::{ClientError, call};
use mnemos_hostd::protocol::{Actor, MAX_LINE_BYTES, Operation, Refusal, Request, Response};
use mnemos_hostd::{server, socket};
use rustix::process::{Pid, getgid, getuid};
use tempfile::TempDir;

/// Short, so that the slow-peer test is quick; a correct peer needs microseconds.
const PEER_DEADLINE: Duration = Duration::from_millis(300);

/// A helper in a thread, with a `sleep` in the place of PID 1.
struct Helper {
    _folder: TempDir,
    path: PathBuf,
    init: Child,
}

impl Helper {
    fn start(allowed_uid: u32) -> Helper {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostd.sock");
        let init = start_init();
        let config = server::Config {
            allowed_uids: vec![allowed_uid],
            init: Pid::from_child(&init),
            peer_deadline: PEER_DEADLINE,
        };
        let listener = socket::listen(&path, getgid().as_raw()).unwrap();
        std::thread::spawn(move || server::serve(&listener, &config));
        Helper {
            _folder: folder,
            path,
            init,
        }
    }

    fn for_us() -> Helper {
        Helper::start(getuid().as_raw())
    }

    /// Sends raw bytes and reads the answer to the end.
    fn exchange(&self, bytes: &[u8]) -> Response {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // A refused peer may be answered before it has sent everything.
        let _ = stream.write_all(bytes);
        read_response(&mut stream)
    }

    fn init_is_untouched(&mut self) -> bool {
        self.init.try_wait().unwrap().is_none()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only process these tests start"
)]
fn start_init() -> Child {
    std::process::Command::new("/bin/sleep")
        .arg("60")
        .spawn()
        .unwrap()
}

fn read_response(stream: &mut UnixStream) -> Response {
    let mut answer = Vec::new();
    // The kernel resets a connection closed with unread bytes; what arrived before counts.
    let _ = stream.read_to_end(&mut answer);
    serde_json::from_slice(&answer).unwrap()
}

fn reboot() -> Request {
    Request {
        operation: Operation::Reboot,
        actor: Actor::try_from("test".to_owned()).unwrap(),
    }
}

fn reason(response: &Response) -> Option<Refusal> {
    match response {
        Response::Refused { reason, .. } => Some(*reason),
        Response::Done | Response::Failed { .. } => None,
    }
}

#[test]
fn an_allowed_peer_reboots_the_node() {
    let mut helper = Helper::for_us();
    call(&helper.path, &reboot()).unwrap();
    assert_eq!(helper.init.wait().unwrap().signal(), Some(34 + 5));
}

#[test]
fn another_user_is_refused_before_it_is_read() {
    let mut helper = Helper::start(getuid().as_raw() + 1);
    match call(&helper.path, &reboot()) {
        Err(ClientError::Refused {
            reason: Refusal::NotAllowed,
            detail,
        }) => {
            assert_eq!(detail, format!("user {} may not ask", getuid().as_raw()));
        }
        // The helper may have closed before we finished writing.
        Err(ClientError::Send(_)) => {}
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(helper.init_is_untouched());
}

#[test]
fn garbage_is_refused() {
    let mut helper = Helper::for_us();
    for bytes in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"{\"operation\":\"halt\",\"actor\":\"a\"}\n",
        b"\xff\xfe\n",
    ] {
        assert_eq!(
            reason(&helper.exchange(bytes)),
            Some(Refusal::Malformed),
            "{bytes:?}"
        );
    }
    assert!(helper.init_is_untouched());
}

#[test]
fn an_oversize_line_is_refused_without_reading_it_all() {
    let mut helper = Helper::for_us();
    let mut line = vec![b' '; 16 * MAX_LINE_BYTES];
    line.extend_from_slice(b"{\"operation\":\"reboot\",\"actor\":\"a\"}\n");
    assert_eq!(reason(&helper.exchange(&line)), Some(Refusal::Malformed));
    assert!(helper.init_is_untouched());
}

#[test]
fn a_slow_peer_is_cut_off_and_does_not_hold_up_others() {
    let mut helper = Helper::for_us();
    let mut slow = UnixStream::connect(&helper.path).unwrap();
    slow.write_all(b"{\"operation\":").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    call(&helper.path, &reboot()).unwrap();
    assert_eq!(helper.init.wait().unwrap().signal(), Some(34 + 5));
    assert_eq!(reason(&read_response(&mut slow)), Some(Refusal::Malformed));
}

#[test]
fn a_crowd_is_turned_away_and_then_served_again() {
    let mut helper = Helper::for_us();
    let mut crowd: Vec<UnixStream> = (0..12)
        .map(|_| UnixStream::connect(&helper.path).unwrap())
        .collect();
    for stream in &mut crowd {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
    }
    let reasons: Vec<_> = crowd
        .iter_mut()
        .map(|stream| reason(&read_response(stream)))
        .collect();
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| **reason == Some(Refusal::Busy))
            .count(),
        4
    );
    call(&helper.path, &reboot()).unwrap();
    assert_eq!(helper.init.wait().unwrap().signal(), Some(34 + 5));
}

#[test]
fn a_failure_is_reported_not_hidden() {
    let mut helper = Helper::for_us();
    helper.init.kill().unwrap();
    helper.init.wait().unwrap();
    assert!(matches!(
        call(&helper.path, &reboot()),
        Err(ClientError::Failed(_))
    ));
}

#[test]
fn a_missing_helper_is_named() {
    let error = call(Path::new("/nonexistent/hostd.sock"), &reboot()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot reach the root helper at /nonexistent/hostd.sock"
    );
}
