//! One `GET` over a Unix socket: bounded in size and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Largest answer accepted, in bytes with headers. A status is a few kilobytes.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The socket failed.
    #[error("connection broke")]
    Broken(#[source] io::Error),
    /// The answer did not come in time.
    #[error("no answer in time")]
    TooSlow,
    /// The answer does not end.
    #[error("answer is longer than {MAX_RESPONSE_BYTES} bytes")]
    TooLong,
    /// The connection ended before the answer did.
    #[error("answer is cut short")]
    CutShort,
    /// Not an HTTP answer with a `Content-Length`.
    #[error("answer is not the HTTP expected")]
    NotHttp,
    /// Another status than 200.
    #[error("answer has HTTP status {0}")]
    Status(u16),
}

/// The body of `GET target` from the server on `socket`.
///
/// # Errors
/// Says at which step it failed; the deadline holds for the whole exchange.
pub fn get(socket: &Path, target: &str, within: Duration) -> Result<Vec<u8>, FetchError> {
    let deadline = Instant::now() + within;
    let mut stream = UnixStream::connect(socket).map_err(FetchError::Connect)?;
    stream
        .set_write_timeout(Some(within))
        .map_err(FetchError::Broken)?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(FetchError::Broken)?;
    let mut received = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        if let Some(body) = parse_response(&received)? {
            return Ok(body.to_vec());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(FetchError::TooSlow);
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(FetchError::Broken)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(FetchError::CutShort),
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(FetchError::TooSlow);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FetchError::Broken(error)),
        }
        if received.len() > MAX_RESPONSE_BYTES {
            return Err(FetchError::TooLong);
        }
    }
}

/// The body of a complete 200 answer; `None` while more bytes are needed.
fn parse_response(received: &[u8]) -> Result<Option<&[u8]>, FetchError> {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    let Some(head_bytes) = received
        .windows(HEAD_END.len())
        .position(|window| window == HEAD_END)
    else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..head_bytes]).map_err(|_| FetchError::NotHttp)?;
    let mut lines = head.split("\r\n");
    match lines.next().and_then(parse_status_line) {
        Some(200) => {}
        Some(code) => return Err(FetchError::Status(code)),
        None => return Err(FetchError::NotHttp),
    }
    let body_bytes = lines.find_map(content_length).ok_or(FetchError::NotHttp)?;
    if body_bytes > MAX_RESPONSE_BYTES {
        return Err(FetchError::TooLong);
    }
    let body = &received[head_bytes + HEAD_END.len()..];
    Ok(body.get(..body_bytes))
}

/// 200 for `HTTP/1.1 200 OK`.
fn parse_status_line(line: &str) -> Option<u16> {
    let mut words = line.split(' ');
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

fn content_length(header: &str) -> Option<usize> {
    let (name, value) = header.split_once(':')?;
    name.eq_ignore_ascii_case("content-length")
        .then(|| value.trim().parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn parses_a_complete_answer() {
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse_response(answer).unwrap(), Some(&b"{}"[..]));
        for end in 0..answer.len() {
            assert_eq!(
                parse_response(&answer[..end]).unwrap(),
                None,
                "cut at {end}"
            );
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let not_http: [&[u8]; 3] = [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        ];
        for answer in not_http {
            assert!(matches!(parse_response(answer), Err(FetchError::NotHttp)));
        }
        let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        assert!(matches!(parse_response(huge), Err(FetchError::TooLong)));
        let denied = b"HTTP/1.1 403 Forbidden\r\n\r\n";
        assert!(matches!(
            parse_response(denied),
            Err(FetchError::Status(403))
        ));
    }

    /// Serves `answer` once, and holds the connection open until the test ends.
    fn exchange(answer: &'static [u8], within: Duration) -> Result<Vec<u8>, FetchError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
            stream.write_all(answer).unwrap();
            stream
        });
        let result = get(&path, "/status", within);
        drop(server.join().unwrap());
        result
    }

    #[test]
    fn fetches_over_a_socket_that_stays_open() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(exchange(answer, Duration::from_secs(10)).unwrap(), b"abc");
    }

    #[test]
    fn a_server_that_stops_half_way_is_too_slow() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na";
        assert!(matches!(
            exchange(answer, Duration::from_millis(100)),
            Err(FetchError::TooSlow)
        ));
    }

    #[test]
    fn nobody_there() {
        let error = get(Path::new("/nonexistent"), "/status", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, FetchError::Connect(_)));
    }
}
