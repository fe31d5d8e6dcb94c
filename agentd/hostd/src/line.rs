//! Reading one bounded line from a socket before a deadline.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::protocol::MAX_LINE_BYTES;

/// Why no line came.
#[derive(Debug, thiserror::Error)]
pub enum ReadLineError {
    /// The peer sent more than a message may hold.
    #[error("line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The peer sent nothing, or stopped in the middle.
    #[error("no complete line in time")]
    TooSlow,
    /// The peer closed before the end of the line.
    #[error("connection closed before the end of the line")]
    Closed,
    /// The socket failed.
    #[error("cannot read")]
    Read(#[source] io::Error),
}

/// The first line of `stream` without its newline; what follows it is not read as a second message.
///
/// The deadline holds for the whole line: a peer that sends a byte now and then does not move it.
pub(crate) fn read_line(
    stream: &mut UnixStream,
    within: Duration,
) -> Result<Vec<u8>, ReadLineError> {
    let deadline = Instant::now() + within;
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReadLineError::TooSlow);
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(ReadLineError::Read)?;
        let count = match stream.read(&mut chunk) {
            Ok(0) => return Err(ReadLineError::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ReadLineError::TooSlow);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ReadLineError::Read(error)),
        };
        let chunk = &chunk[..count];
        let (part, complete) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&chunk[..end], true),
            None => (chunk, false),
        };
        line.extend_from_slice(part);
        if line.len() > MAX_LINE_BYTES {
            return Err(ReadLineError::TooLong);
        }
        if complete {
            return Ok(line);
        }
    }
}
