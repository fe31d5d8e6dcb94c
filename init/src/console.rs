//! Where PID 1 is heard: the kernel log, JSON lines on serial consoles, text for people on the screen.
//!
//! Nothing here blocks: a serial line that does not drain keeps its bytes pending, up to a limit.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::moment::Moment;
use crate::report;
use crate::supervisor::{Severity, StageState};

/// A line that takes no bytes keeps at most this many: dozens of stage lines.
const PENDING_MAX_BYTES: usize = 64 * 1024;

/// The screen until `mnemos-console` takes it over.
const SCREEN: &str = "/dev/tty1";

/// An open terminal and what it did not take yet.
struct Terminal {
    file: File,
    pending: Vec<u8>,
}

impl Terminal {
    fn open(path: &str) -> Option<Terminal> {
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits().cast_signed();
        let file = File::options()
            .write(true)
            .custom_flags(flags)
            .open(path)
            .ok()?;
        Some(Terminal {
            file,
            pending: Vec::new(),
        })
    }

    /// Writes `text` with one write(2) if the terminal takes it; keeps the rest.
    fn send(&mut self, text: &str) {
        if self.pending.len() + text.len() <= PENDING_MAX_BYTES {
            self.pending.extend_from_slice(text.as_bytes());
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return,
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The terminal is gone: nobody reads, and there is nobody to tell.
                Err(_) => return self.pending.clear(),
            }
        }
    }
}

/// All places PID 1 writes to. Absent ones are skipped: a machine may have neither screen nor serial port.
pub struct Console {
    kmsg: Option<File>,
    serial: Vec<Terminal>,
    screen: Option<Terminal>,
    screen_is_ours: bool,
}

impl Console {
    /// Opens what /proc/consoles lists.
    pub fn open() -> Console {
        let consoles = fs::read_to_string("/proc/consoles").unwrap_or_default();
        let serial = serial_consoles(&consoles);
        Console {
            kmsg: File::options().write(true).open("/dev/kmsg").ok(),
            serial: serial
                .iter()
                .filter_map(|name| Terminal::open(&format!("/dev/{name}")))
                .collect(),
            screen: Terminal::open(SCREEN),
            screen_is_ours: true,
        }
    }

    /// For a name space, whose consoles belong to somebody else: the log on stderr, JSON lines on stdout, no screen.
    pub fn standard() -> Console {
        let file = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().ok().map(File::from);
        let stdout = file(rustix::stdio::stdout());
        Console {
            kmsg: file(rustix::stdio::stderr()),
            serial: stdout
                .into_iter()
                .map(|file| Terminal {
                    file,
                    pending: Vec::new(),
                })
                .collect(),
            screen: None,
            screen_is_ours: false,
        }
    }

    /// One line of the kernel log, which works before and after the journal does.
    pub fn log(&mut self, severity: Severity, text: &str) {
        if let Some(kmsg) = &mut self.kmsg {
            let line: String = text
                .chars()
                .map(|letter| if letter.is_control() { ' ' } else { letter })
                .collect();
            // The kernel log takes a whole record or none; losing one must not stop PID 1.
            let _ = kmsg.write(format!("<{}>mnemos-init: {line}\n", severity as u8).as_bytes());
        }
    }

    /// A boot stage: JSON on serial, text on the screen.
    pub fn stage(&mut self, now: Moment, stage: &str, state: StageState, detail: &str) {
        self.json(&report::stage_json(now, stage, state, detail));
        self.text(&report::stage_text(now, stage, state, detail));
    }

    /// An emergency: in every place, whoever owns the screen.
    pub fn emergency(&mut self, now: Moment, reason: &str) {
        self.log(Severity::Error, reason);
        self.json(&report::emergency_json(now, reason));
        self.take_screen();
        self.text(&format!("EMERGENCY: {reason}"));
        self.text("The node is stopped. Press Ctrl-Alt-Del to restart it, or hold the power button to switch it off.");
    }

    /// From now on somebody else draws on the screen.
    pub fn give_screen(&mut self) {
        self.screen_is_ours = false;
    }

    /// From now on PID 1 writes to the screen again.
    pub fn take_screen(&mut self) {
        self.screen_is_ours = true;
    }

    /// Tries again to send what is pending; says whether anything still is.
    pub fn flush(&mut self) -> bool {
        let terminals = self.serial.iter_mut().chain(&mut self.screen);
        terminals.fold(false, |pending, terminal| {
            terminal.flush();
            pending || !terminal.pending.is_empty()
        })
    }

    fn json(&mut self, line: &str) {
        for terminal in &mut self.serial {
            terminal.send(&format!("\r\n{line}\r\n"));
        }
    }

    fn text(&mut self, line: &str) {
        if let (Some(screen), true) = (&mut self.screen, self.screen_is_ours) {
            screen.send(&format!("{line}\r\n"));
        }
    }
}

/// Names of the serial consoles in the text of /proc/consoles.
pub fn serial_consoles(consoles: &str) -> Vec<String> {
    let names = consoles
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| name.starts_with("ttyS") || name.starts_with("hvc"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_consoles_are_told_from_screens() {
        let consoles =
            "tty0                 -WU (EC p  )    4:1\nttyS0                -W- (E  p a)    4:64\n";
        assert_eq!(serial_consoles(consoles), ["ttyS0"]);
    }
}
