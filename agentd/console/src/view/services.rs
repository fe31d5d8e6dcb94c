//! Services and their state: one a row with details where there is room, else in columns.

use super::duration;
use crate::picture::Picture;
use crate::status::Unit;
use crate::text::{Line, Size, Style};

/// Columns of a service in the compact form: name and state.
const COMPACT_COLUMNS: usize = 39;
/// Columns of the name.
const NAME_COLUMNS: usize = 24;

/// At most `size.rows` lines.
pub(super) fn lines(picture: &Picture, size: Size) -> Vec<Line> {
    let units: Vec<&Unit> = picture.services().collect();
    if units.is_empty() || size.rows == 0 {
        return Vec::new();
    }
    if units.len() <= size.rows {
        return units
            .into_iter()
            .map(|unit| detailed(unit, picture.uptime_ms))
            .collect();
    }
    let columns = (size.columns / COMPACT_COLUMNS).max(1);
    let rows = units.len().div_ceil(columns);
    if rows <= size.rows {
        return compact(&units, rows);
    }
    // Too many: those that need a look come first, then a count of the rest.
    let (fine, open): (Vec<&Unit>, Vec<&Unit>) = units.into_iter().partition(|unit| is_fine(unit));
    let mut lines: Vec<Line> = open
        .into_iter()
        .take(size.rows - 1)
        .map(|unit| detailed(unit, picture.uptime_ms))
        .collect();
    lines.push(Line::new(
        Style::Dim,
        format!(" {} other services run as they should", fine.len()),
    ));
    lines
}

/// Filled column by column, so that start order reads downwards.
fn compact(units: &[&Unit], rows: usize) -> Vec<Line> {
    let mut lines = vec![Line::blank(); rows];
    for (index, unit) in units.iter().enumerate() {
        let line = &mut lines[index % rows];
        *line = std::mem::take(line)
            .pad_to(index / rows * COMPACT_COLUMNS)
            .join(name_and_state(unit));
    }
    lines
}

fn detailed(unit: &Unit, uptime_ms: u64) -> Line {
    let line = name_and_state(unit).pad_to(COMPACT_COLUMNS);
    let line = match unit.state.as_str() {
        "running" | "starting" | "backoff" | "stopping" => line.and(
            Style::Dim,
            format!("{:<11}", duration(uptime_ms.saturating_sub(unit.since_ms))),
        ),
        _ => line.pad_to(COMPACT_COLUMNS + 11),
    };
    let line = match unit.restarts {
        0 => line,
        1 => line.and(Style::Warn, "restarted once  "),
        count => line.and(Style::Warn, format!("restarted {count} times  ")),
    };
    let note = unit
        .detail
        .as_deref()
        .or(unit.status.as_deref())
        .unwrap_or_default();
    line.and(Style::Dim, note)
}

fn name_and_state(unit: &Unit) -> Line {
    let (style, word) = state(unit);
    let name = Line::new(Style::Plain, format!(" {}", unit.short_name())).fit(NAME_COLUMNS);
    name.pad_to(NAME_COLUMNS + 1).and(style, word)
}

/// The state in a person's word.
fn state(unit: &Unit) -> (Style, &str) {
    match unit.state.as_str() {
        "running" => (Style::Good, "running"),
        "exited" => (Style::Good, "done"),
        "waiting" => (Style::Dim, "waiting"),
        "starting" => (Style::Warn, "starting"),
        "stopping" => (Style::Warn, "stopping"),
        "stopped" => (Style::Dim, "stopped"),
        "skipped" => (Style::Dim, "skipped"),
        "backoff" => (Style::Bad, "restarting"),
        "failed" => (Style::Bad, "failed"),
        other => (Style::Warn, other),
    }
}

fn is_fine(unit: &Unit) -> bool {
    matches!(unit.state.as_str(), "running" | "exited" | "skipped")
}
