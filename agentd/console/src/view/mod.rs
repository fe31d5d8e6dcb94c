//! The screen as lines: pure, so that a golden file is its test.
//!
//! ```text
//! name in big letters                     version, time since start
//! EPHEMERAL banner
//! address, token, CA, model, self-test, memory
//! services, one a row with details, or two a row where rows are scarce
//! problems
//! ready, or what is missing
//! ```

mod banner;
mod facts;
mod services;

use crate::picture::Picture;
use crate::text::{Line, Size, Style, wrap};

/// Rows that problems may take before services get theirs.
const MAX_PROBLEM_ROWS: usize = 6;
/// From this many rows on, blank ones set the blocks apart.
const ROOMY_ROWS: usize = 30;

/// Exactly `size.rows` lines of at most `size.columns` columns.
///
/// Rows are given out in order of need: name, facts and the last line always; then problems; services get
/// what is left.
pub fn render(picture: &Picture, size: Size) -> Vec<Line> {
    let columns = size.columns;
    let roomy = size.rows >= ROOMY_ROWS;
    let mut top = header(picture, columns);
    if roomy {
        top.push(Line::blank());
    }
    top.extend(facts::lines(picture, columns));
    top.push(Line::blank());
    let bottom = footer(picture, columns);
    let mut left = size.rows.saturating_sub(top.len() + bottom.len());

    let mut problems = problems(picture, columns, left.min(MAX_PROBLEM_ROWS));
    if roomy && !problems.is_empty() {
        problems.insert(0, Line::blank());
    }
    left = left.saturating_sub(problems.len());
    let services = services::lines(
        picture,
        Size {
            columns,
            rows: left,
        },
    );

    let mut lines = top;
    lines.extend(services);
    lines.extend(problems);
    // The last line says whether the node is ready: it stands at the bottom, whatever else must go.
    lines.truncate(size.rows.saturating_sub(bottom.len()));
    lines.resize(size.rows.saturating_sub(bottom.len()), Line::blank());
    lines.extend(bottom);
    lines.truncate(size.rows);
    lines.into_iter().map(|line| line.fit(columns)).collect()
}

fn header(picture: &Picture, columns: usize) -> Vec<Line> {
    let name = picture
        .status()
        .map(|status| status.name.as_str())
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or("mnemos");
    let version = picture
        .status()
        .map_or(String::new(), |status| format!("MNEMOS {}", status.version));
    let right = [version, format!("up {}", duration(picture.uptime_ms))];
    let right_columns = right
        .iter()
        .map(|text| text.chars().count())
        .max()
        .unwrap_or_default();
    let left_columns = columns.saturating_sub(right_columns + 3);
    let rows = match banner::big(name, left_columns) {
        Some(rows) => rows.to_vec(),
        None => vec![name.to_owned(), String::new()],
    };
    let mut lines: Vec<Line> = rows
        .into_iter()
        .map(|row| Line::new(Style::Bold, format!(" {row}")))
        .collect();
    for (line, text) in lines.iter_mut().zip(right) {
        let column = columns.saturating_sub(text.chars().count() + 1);
        *line = std::mem::take(line).pad_to(column).and(Style::Dim, text);
    }
    lines.push(
        match picture.status().is_some_and(|status| status.ephemeral) {
            true => ephemeral(columns),
            false => Line::blank(),
        },
    );
    lines
}

fn ephemeral(columns: usize) -> Line {
    let text = " EPHEMERAL  All data is in memory and is lost when the node is switched off.";
    Line::new(Style::Banner, format!("{text:<columns$}"))
}

fn problems(picture: &Picture, columns: usize, max_rows: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for problem in picture.problems() {
        for (index, row) in wrap(problem, columns.saturating_sub(4))
            .into_iter()
            .enumerate()
        {
            let mark = if index == 0 { " !  " } else { "    " };
            lines.push(Line::new(Style::Bad, mark).and(Style::Plain, row));
        }
    }
    if lines.len() > max_rows {
        lines.truncate(max_rows.saturating_sub(1));
        lines.push(
            Line::new(Style::Bad, " !  ").and(Style::Plain, "more problems are on the admin page"),
        );
    }
    lines.truncate(max_rows);
    lines
}

/// A rule, and below it the one answer everybody looks for.
fn footer(picture: &Picture, columns: usize) -> Vec<Line> {
    let mut lines = vec![Line::new(Style::Dim, "─".repeat(columns))];
    if picture.stopping {
        lines.push(Line::new(Style::Warn, " MNEMOS is shutting down"));
        return lines;
    }
    if picture.is_ready() {
        lines.push(
            Line::new(Style::Good, " MNEMOS is ready").and(Style::Plain, ready_hint(picture)),
        );
        return lines;
    }
    let missing = facts::missing(picture).join("; ");
    for (index, row) in wrap(&missing, columns.saturating_sub(13))
        .into_iter()
        .take(2)
        .enumerate()
    {
        let label = if index == 0 {
            " Not ready   "
        } else {
            "             "
        };
        lines.push(Line::new(Style::Warn, label).and(Style::Plain, row));
    }
    lines
}

fn ready_hint(picture: &Picture) -> &'static str {
    match picture
        .status()
        .is_some_and(|status| !status.urls.is_empty())
    {
        true => "  ·  open the address above in a browser and enter the token",
        false => "  ·  connect a network cable to reach it",
    }
}

/// `48 s`, `12 min`, `3 h 20 min`, `9 d 4 h`.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_get_coarser() {
        let cases = [
            (900, "0 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (12_000_000, "3 h 20 min"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(milliseconds), expected);
        }
        assert_eq!(duration(9 * 86_400_000 + 4 * 3_600_000), "9 d 4 h");
    }

    #[test]
    fn fills_every_size_exactly() {
        let sizes = [
            (0, 0),
            (1, 1),
            (10, 3),
            (40, 12),
            (80, 25),
            (132, 43),
            (240, 67),
        ];
        for (columns, rows) in sizes {
            let lines = render(&Picture::default(), Size { columns, rows });
            assert_eq!(lines.len(), rows);
            assert!(
                lines.iter().all(|line| line.width() <= columns.max(2)),
                "{columns}x{rows}"
            );
        }
    }
}
