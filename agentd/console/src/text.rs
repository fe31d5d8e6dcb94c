//! Lines of styled text: what the view makes and the screen draws.

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

impl Size {
    /// A VGA text screen, and what a terminal that does not tell its size is taken for.
    pub const VGA_TEXT: Size = Size {
        columns: 80,
        rows: 25,
    };
}

/// How a piece of text looks. Meaning never rests on colour alone: the words say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// To be read first.
    Bold,
    /// Of lesser weight.
    Dim,
    /// As it should be.
    Good,
    /// Under way, or to be noticed.
    Warn,
    /// Wrong.
    Bad,
    /// A banner that must be seen.
    Banner,
}

/// A piece of text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its look.
    pub style: Style,
    text: String,
}

impl Span {
    /// Text from anywhere: what could move the cursor or has no glyph on a text screen becomes `?`.
    pub fn new(style: Style, text: impl AsRef<str>) -> Span {
        Span {
            style,
            text: text.as_ref().chars().map(drawable).collect(),
        }
    }

    /// What is drawn.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Latin text, and the line and block characters of the kernel's built-in font (code page 437).
fn drawable(c: char) -> char {
    match c {
        ' '..='~' | '\u{a1}'..='\u{ff}' | '─' | '│' | '█' | '▀' | '▄' | '░' => c,
        _ => '?',
    }
}

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<Span>);

impl Line {
    /// An empty row.
    pub fn blank() -> Line {
        Line::default()
    }

    /// A row of one style.
    pub fn new(style: Style, text: impl AsRef<str>) -> Line {
        Line::blank().and(style, text)
    }

    /// The row with more text at its end.
    #[must_use]
    pub fn and(mut self, style: Style, text: impl AsRef<str>) -> Line {
        self.0.push(Span::new(style, text));
        self
    }

    /// The row filled with blanks up to `column`.
    #[must_use]
    pub fn pad_to(self, column: usize) -> Line {
        let missing = column.saturating_sub(self.width());
        if missing == 0 {
            self
        } else {
            self.and(Style::Plain, " ".repeat(missing))
        }
    }

    /// The row followed by another.
    #[must_use]
    pub fn join(mut self, other: Line) -> Line {
        self.0.extend(other.0);
        self
    }

    /// At most `columns` wide; `..` where something is missing.
    #[must_use]
    pub fn fit(self, columns: usize) -> Line {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns.saturating_sub(2);
        let mut fitted = Line::blank();
        for span in self.0 {
            let text: String = span.text.chars().take(left).collect();
            left -= text.chars().count();
            fitted = fitted.and(span.style, text);
        }
        fitted.and(Style::Dim, "..")
    }

    /// Columns it takes. Every [`drawable`] character takes one.
    pub fn width(&self) -> usize {
        self.0.iter().map(|span| span.text.chars().count()).sum()
    }

    /// Its pieces.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// Without styles and trailing blanks.
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().map(Span::text).collect();
        text.trim_end().to_owned()
    }
}

/// `text` in rows of at most `columns`, broken behind blanks and colons, or anywhere if there are none.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut rows = Vec::new();
    let mut rest = text.trim();
    while rest.chars().count() > columns {
        let limit = rest
            .char_indices()
            .nth(columns)
            .map_or(rest.len(), |(at, _)| at);
        let blank = match rest[limit..].starts_with(' ') {
            true => Some(limit),
            false => rest[..limit].rfind(' '),
        };
        let colon = rest[..limit].rfind(':').map(|at| at + 1);
        let end = blank.or(colon).filter(|end| *end > 0).unwrap_or(limit);
        rows.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    rows.push(rest.to_owned());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(
            Span::new(Style::Plain, "a\x1b[2Jb\r\n\u{9b}c\u{4e00}é").text(),
            "a?[2Jb???c?é"
        );
    }

    #[test]
    fn a_long_row_is_cut_visibly() {
        let line = Line::new(Style::Bold, "abcdef").and(Style::Plain, "ghij");
        assert_eq!(line.clone().fit(10).plain(), "abcdefghij");
        assert_eq!(line.fit(8).plain(), "abcdef..");
    }

    #[test]
    fn wraps_at_blanks_and_colons() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("SHA256:AA:BB:CC", 9), ["SHA256:", "AA:BB:CC"]);
        assert_eq!(wrap("unbreakable", 4), ["unbr", "eaka", "ble"]);
        assert_eq!(wrap("exactly8 more", 8), ["exactly8", "more"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(wrap("aaaaé b", 4), ["aaaa", "é b"]);
        assert_eq!(wrap("é é é", 1), ["é", "é", "é"]);
    }
}
