//! Serial consoles: written without ever waiting.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::announce::Message;

/// Bytes kept for a line that does not take them. A boot says about 2 KiB.
const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// The serial consoles in `/proc/consoles`: `ttyS0                -W- (EC p a)    4:64`.
pub fn serial_consoles(proc_consoles: &str) -> Vec<&str> {
    let names = proc_consoles
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.filter(|name| is_serial(name)).collect()
}

/// `ttyS` and a number: nothing else in that file may become a path.
fn is_serial(name: &str) -> bool {
    name.strip_prefix("ttyS").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// One serial line and what it has not taken yet.
#[derive(Debug)]
pub struct Port {
    file: File,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
}

impl Port {
    /// Opens a terminal for writing; it neither waits for a carrier nor becomes our controlling terminal.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Port> {
        Ok(Port {
            file: open_terminal(path)?,
            queue: VecDeque::new(),
            queued_bytes: 0,
        })
    }

    /// Queues a message; one that finds the queue full is dropped, the line is dead.
    pub fn push(&mut self, message: &Message) {
        let bytes = to_bytes(message);
        if self.queued_bytes + bytes.len() <= MAX_QUEUED_BYTES {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    /// Something is queued: call [`Port::flush`] again once the line is writable.
    pub fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes what the line takes now, a message with one write(2) where the line takes it whole.
    ///
    /// # Errors
    /// Those of write(2), but for a full line, which is no error here.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.queue.front_mut() {
            match self.file.write(bytes) {
                Ok(count) if count < bytes.len() => {
                    bytes.drain(..count);
                    self.queued_bytes -= count;
                }
                Ok(count) => {
                    self.queued_bytes -= count;
                    self.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Write-only, never waiting, never our controlling terminal.
pub(crate) fn open_terminal(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// A fresh line before and a line end after, so that kernel messages do not run into it.
fn to_bytes(message: &Message) -> Vec<u8> {
    match message {
        Message::Json(json) => format!("\r\n{json}\r\n").into_bytes(),
        Message::People(lines) => {
            let text: String = lines
                .iter()
                .map(|line| format!("{}\r\n", printable(line)))
                .collect();
            format!("\r\n{text}").into_bytes()
        }
    }
}

/// A serial line is somebody's terminal: no control characters but our own line ends.
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    #[test]
    fn finds_serial_consoles_only() {
        let consoles = "tty0                 -WU (EC  p  )    4:7\n\
                        ttyS0                -W- (EC p a)    4:64\n\
                        ttyS/../mem          -W- (E)    1:1\nttyS\nnetcon0 -W-\n";
        assert_eq!(serial_consoles(consoles), ["ttyS0"]);
    }

    /// A terminal pair: what is written to the port is read from the file.
    fn terminal() -> (Port, File) {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let port = Port::open(Path::new(name.to_str().unwrap())).unwrap();
        (port, File::from(controller))
    }

    #[test]
    fn json_stands_on_a_line_of_its_own() {
        let (mut port, mut far_end) = terminal();
        port.push(&Message::Json("{}".into()));
        port.push(&Message::People(vec!["a\x1b[2J".into(), "b".into()]));
        port.flush().unwrap();
        assert!(!port.is_pending());
        let mut received = [0; 64];
        let count = far_end.read(&mut received).unwrap();
        // The terminal turns \n into \r\n once more; a serial console in raw mode does not.
        let text = String::from_utf8_lossy(&received[..count]).replace("\r\r\n", "\r\n");
        assert_eq!(text, "\r\n{}\r\n\r\na?[2J\r\nb\r\n");
    }

    #[test]
    fn a_line_that_takes_nothing_holds_up_nothing() {
        let (mut port, _far_end) = terminal();
        for _ in 0..10_000 {
            port.push(&Message::Json("x".repeat(100)));
            port.flush().unwrap();
        }
        assert!(port.is_pending());
        assert!(port.queued_bytes <= MAX_QUEUED_BYTES);
        assert_eq!(
            port.queued_bytes,
            port.queue.iter().map(Vec::len).sum::<usize>()
        );
    }
}
