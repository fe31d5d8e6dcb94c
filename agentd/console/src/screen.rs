//! Draws lines on a text terminal: only what changed, now and then everything, never waiting.
//!
//! Nothing is cleared before it is drawn, so nothing flickers. Kernel messages that scrolled the picture away
//! are painted over by the next full drawing.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::termios::tcgetwinsize;

use crate::serial::open_terminal;
use crate::text::{Line, Size, Style};

/// CAN ends a half-received escape sequence; then UTF-8, no cursor, no wrapping at the right edge, and no
/// blanking or powering down of the display: the token must stay readable. See console_codes(4).
const SET_UP: &str = "\x18\x1b%G\x1b[?25l\x1b[?7l\x1b[9;0]\x1b[14;0]";
/// Attributes off, everything cleared.
const CLEAR: &str = "\x1b[0m\x1b[2J";

/// A text terminal and what is on it.
#[derive(Debug)]
pub struct Screen {
    file: File,
    shown: Option<(Size, Vec<Line>)>,
}

impl Screen {
    /// Opens the terminal for writing.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Screen> {
        Ok(Screen {
            file: open_terminal(path)?,
            shown: None,
        })
    }

    /// What the terminal says its size is now: a display driver that takes over changes it.
    pub fn size(&self) -> Size {
        match tcgetwinsize(&self.file) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
                columns: size.ws_col.into(),
                rows: size.ws_row.into(),
            },
            _ => Size::VGA_TEXT,
        }
    }

    /// Brings the terminal from what it shows to `lines`; `everything` repaints unchanged lines too.
    ///
    /// A terminal that takes no more (scroll lock) is left as it is and repainted next time.
    ///
    /// # Errors
    /// Those of write(2), but for a full terminal.
    pub fn draw(&mut self, size: Size, lines: Vec<Line>, everything: bool) -> io::Result<()> {
        let bytes = match &self.shown {
            Some((shown_size, shown)) if *shown_size == size => {
                let shown: &[Line] = if everything { &[] } else { shown };
                repaint(shown, &lines, everything)
            }
            _ => format!("{SET_UP}{CLEAR}{}", repaint(&[], &lines, false)),
        };
        self.shown = None;
        if write_now(&mut self.file, bytes.as_bytes())? {
            self.shown = Some((size, lines));
        }
        Ok(())
    }
}

/// The bytes that turn `shown` into `lines`.
fn repaint(shown: &[Line], lines: &[Line], set_up: bool) -> String {
    let mut bytes = String::from(if set_up { SET_UP } else { "" });
    for (row, line) in lines.iter().enumerate() {
        if shown.get(row) != Some(line) {
            bytes.push_str(&format!("\x1b[{};1H{}\x1b[0m\x1b[K", row + 1, encode(line)));
        }
    }
    bytes
}

fn encode(line: &Line) -> String {
    line.spans()
        .iter()
        .map(|span| format!("\x1b[{}m{}", attributes(span.style), span.text()))
        .collect()
}

/// Select Graphic Rendition parameters, readable on the black of a text screen.
fn attributes(style: Style) -> &'static str {
    match style {
        Style::Plain => "0;37",
        Style::Bold => "0;1;37",
        Style::Dim => "0;36",
        Style::Good => "0;1;32",
        Style::Warn => "0;1;33",
        Style::Bad => "0;1;31",
        Style::Banner => "0;30;43",
    }
}

/// Writes all of `bytes` if the terminal takes them at once. `false`: it took only a part, or nothing.
fn write_now(file: &mut File, mut bytes: &[u8]) -> io::Result<bool> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Ok(false),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::new(Style::Plain, text)
    }

    #[test]
    fn repaints_changed_lines_only() {
        let shown = [line("a"), line("b")];
        assert_eq!(repaint(&shown, &shown, false), "");
        let next = [line("a"), line("c")];
        assert_eq!(
            repaint(&shown, &next, false),
            "\x1b[2;1H\x1b[0;37mc\x1b[0m\x1b[K"
        );
        assert_eq!(repaint(&[], &next, false).matches("\x1b[K").count(), 2);
    }

    #[test]
    fn a_file_is_no_terminal_and_gets_the_size_of_vga_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tty");
        std::fs::write(&path, "").unwrap();
        let mut screen = Screen::open(&path).unwrap();
        assert_eq!(screen.size(), Size::VGA_TEXT);
        for everything in [false, false, true] {
            screen
                .draw(Size::VGA_TEXT, vec![line("x")], everything)
                .unwrap();
        }
        let drawn = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            drawn.matches('x').count(),
            2,
            "first, not when unchanged, and when everything is asked for"
        );
        assert_eq!(
            drawn.matches("\x1b[2J").count(),
            1,
            "cleared only at the start"
        );
    }
}
