//! The serial console of a machine: lines with the time they arrived, and waiting for one of them.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::marker::{self, Marker};

/// Lines an error quotes: enough to see what the machine was doing.
const QUOTED_LINES: usize = 50;

/// One line of the console, without terminal control and line end.
#[derive(Debug, Clone)]
pub struct Line {
    /// The text.
    pub text: String,
    /// What it says to programs, if it does.
    pub marker: Option<Marker>,
    /// When its end arrived.
    pub at: Instant,
}

/// Everything the console has printed so far. One thread fills it, any number wait on it.
#[derive(Debug, Default)]
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// How QEMU ended, once it has.
    exit: Option<String>,
}

/// What came first.
#[derive(Debug, Clone)]
pub enum Next {
    /// The line at the position asked for.
    Line(Line),
    /// QEMU ended, and there is no such line.
    Exited(String),
    /// Neither, until the deadline.
    Deadline,
}

/// A wait that ended without what it waited for.
#[derive(Debug)]
pub struct WaitError {
    what: String,
    why: String,
    last_lines: Vec<String>,
}

impl fmt::Display for WaitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "waited for {}: {}; last console lines:",
            self.what, self.why
        )?;
        for line in &self.last_lines {
            writeln!(formatter, "  | {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for WaitError {}

impl Console {
    /// Reads `serial` to its end. Runs in the thread that owns QEMU.
    pub fn read(&self, serial: impl Read) {
        let mut serial = BufReader::new(serial);
        let mut bytes = Vec::new();
        // A read error means that QEMU is gone, as the end does.
        while matches!(serial.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let text = plain(&String::from_utf8_lossy(&bytes));
            let line = Line {
                marker: marker::parse(&text),
                text,
                at: Instant::now(),
            };
            self.lock().lines.push(line);
            self.changed.notify_all();
            bytes.clear();
        }
    }

    /// Records how QEMU ended.
    pub fn set_exit(&self, status: String) {
        self.lock().exit = Some(status);
        self.changed.notify_all();
    }

    /// How QEMU ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<String> {
        self.lock().exit.clone()
    }

    /// How many lines there are: the position of the next one.
    #[must_use]
    pub fn position(&self) -> usize {
        self.lock().lines.len()
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// The line at `position`, waiting for it until `deadline`.
    #[must_use]
    pub fn next(&self, position: usize, deadline: Instant) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.get(position) {
                return Next::Line(line.clone());
            }
            if let Some(status) = &state.exit {
                return Next::Exited(status.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Deadline;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The first line from `position` on for which `find` has an answer.
    ///
    /// # Errors
    /// QEMU's exit or the deadline came first; the error says what was waited for and quotes the console.
    pub fn wait_for<T>(
        &self,
        what: &str,
        mut position: usize,
        limit: Duration,
        mut find: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T, WaitError> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(position, deadline) {
                Next::Line(line) => {
                    if let Some(found) = find(&line) {
                        return Ok(found);
                    }
                    position += 1;
                }
                Next::Exited(status) => {
                    return Err(self.error(what, format!("QEMU ended ({status})")));
                }
                Next::Deadline => {
                    return Err(self.error(what, format!("not seen within {} s", limit.as_secs())));
                }
            }
        }
    }

    /// Waits until QEMU has ended and returns how.
    ///
    /// # Errors
    /// It still ran at the deadline.
    pub fn wait_for_exit(&self, limit: Duration) -> Result<String, WaitError> {
        let deadline = Instant::now() + limit;
        let mut position = self.position();
        loop {
            match self.next(position, deadline) {
                Next::Line(_) => position += 1,
                Next::Exited(status) => return Ok(status),
                Next::Deadline => {
                    return Err(self.error(
                        "QEMU to end",
                        format!("still running after {} s", limit.as_secs()),
                    ));
                }
            }
        }
    }

    fn error(&self, what: &str, why: String) -> WaitError {
        let state = self.lock();
        let first = state.lines.len().saturating_sub(QUOTED_LINES);
        let last_lines = state.lines[first..]
            .iter()
            .map(|line| line.text.clone())
            .collect();
        WaitError {
            what: what.to_owned(),
            why,
            last_lines,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `text` without line end, terminal control sequences and other control characters.
fn plain(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\t' => result.push(' '),
            character if character.is_control() => {}
            character => result.push(character),
        }
    }
    result
}

/// Skips what follows an escape character. ECMA-48: CSI parameters end at the first byte in 0x40..=0x7E,
/// a command string (OSC) at BEL or at ESC and a backslash; the rest has one more byte.
fn skip_sequence(characters: &mut std::str::Chars) {
    match characters.next() {
        Some('[') => while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']') if characters.find(|c| matches!(c, '\u{7}' | '\u{1b}')) == Some('\u{1b}') => {
            characters.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn control_sequences_are_removed() {
        assert_eq!(
            plain("\u{1b}[2J\u{1b}[01;01Hx\u{1b}[0;32mOK\u{1b}[0m\u{1b}=\r\n"),
            "xOK"
        );
        assert_eq!(plain("\u{1b}["), "");
        assert_eq!(plain("a\u{1b}]104\u{7}b\u{1b}]0;title\u{1b}\\c"), "abc");
        assert_eq!(plain("a\tb"), "a b");
    }

    #[test]
    fn finds_a_marker_and_then_the_next() {
        let console = Console::default();
        console.read(&b"boot\r\n{\"mnemos\":\"emergency\",\"reason\":\"x\"}\r\nmore\n"[..]);
        let reason = console.wait_for("emergency", 0, NOW, |line| match &line.marker {
            Some(Marker::Emergency(emergency)) => Some(emergency.reason.clone()),
            _ => None,
        });
        assert_eq!(reason.unwrap(), "x");
        assert_eq!(console.position(), 3);
    }

    #[test]
    fn an_error_says_what_was_waited_for_and_quotes_50_lines() {
        let console = Console::default();
        console.read(
            (0..60)
                .map(|n| format!("line {n}\n"))
                .collect::<String>()
                .as_bytes(),
        );
        let late = console
            .wait_for("the moon", 0, NOW, |_| None::<()>)
            .unwrap_err()
            .to_string();
        assert!(
            late.starts_with("waited for the moon: not seen within 0 s"),
            "{late}"
        );
        assert!(
            late.contains("| line 59")
                && late.contains("| line 10")
                && !late.contains("| line 9\n")
        );
        console.set_exit("exit status: 1".into());
        let exited = console
            .wait_for("the moon", 0, NOW, |_| None::<()>)
            .unwrap_err()
            .to_string();
        assert!(exited.contains("QEMU ended (exit status: 1)"), "{exited}");
    }

    #[test]
    fn a_line_cut_by_the_end_still_counts() {
        let console = Console::default();
        console.read(&b"panic"[..]);
        assert_eq!(console.lines()[0].text, "panic");
    }
}
