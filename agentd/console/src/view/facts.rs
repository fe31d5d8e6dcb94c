//! Address, token, CA, model, self-test and memory: a label and a value a row.

use crate::picture::{Agent, Link, Picture};
use crate::status::{Engine, Memory, SelfTest, Status};
use crate::text::{Line, Style, wrap};

/// Columns of the label, its margin included.
const LABEL_COLUMNS: usize = 12;
/// Addresses or cards shown; a machine with more shows the rest on its page.
const MAX_NETWORK_ROWS: usize = 4;
/// Columns of the memory gauge.
const GAUGE_COLUMNS: usize = 20;

/// All facts known so far.
pub(super) fn lines(picture: &Picture, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    match picture.status() {
        Some(status) => {
            lines.extend(address(picture, status));
            lines.push(row("Token", Style::Bold, &status.token));
            lines.extend(fingerprint(status, columns));
            lines.extend(models(&status.engines));
            lines.push(self_test(&status.self_test));
            lines.push(memory(status.memory));
        }
        None => lines.extend(links(&picture.links)),
    }
    lines
}

fn row(label: &str, style: Style, value: &str) -> Line {
    Line::new(
        Style::Dim,
        format!(" {label:<width$}", width = LABEL_COLUMNS - 1),
    )
    .and(style, value)
}

fn address(picture: &Picture, status: &Status) -> Vec<Line> {
    if status.urls.is_empty() {
        return links(&picture.links);
    }
    let label = |index| if index == 0 { "Open" } else { "" };
    let shown = status.urls.iter().take(MAX_NETWORK_ROWS).enumerate();
    shown
        .map(|(index, url)| row(label(index), Style::Bold, url))
        .collect()
}

/// Without an address, what a person needs to find out why: cards, hardware addresses, cables.
fn links(links: &[Link]) -> Vec<Line> {
    if links.is_empty() {
        return vec![row("Network", Style::Warn, "no network card found yet")];
    }
    let describe = |link: &Link| match link.carrier {
        true => format!(
            "{}  {}  connected, waiting for an address (DHCP)",
            link.name, link.mac
        ),
        false => format!("{}  {}  no link: check the cable", link.name, link.mac),
    };
    let label = |index| if index == 0 { "Network" } else { "" };
    let shown = links.iter().take(MAX_NETWORK_ROWS).enumerate();
    shown
        .map(|(index, link)| row(label(index), Style::Warn, &describe(link)))
        .collect()
}

fn fingerprint(status: &Status, columns: usize) -> Vec<Line> {
    let rows = wrap(
        &status.fingerprint,
        columns.saturating_sub(LABEL_COLUMNS + 1),
    );
    let label = |index| if index == 0 { "CA" } else { "" };
    rows.iter()
        .enumerate()
        .map(|(index, part)| row(label(index), Style::Plain, part))
        .collect()
}

fn models(engines: &[Engine]) -> Vec<Line> {
    match engines {
        [] => vec![row("Model", Style::Warn, "none is loaded yet")],
        engines => engines.iter().map(model).collect(),
    }
}

fn model(engine: &Engine) -> Line {
    let name = engine.model.as_deref().unwrap_or("no model yet");
    let line = row("Model", Style::Plain, name);
    let line = match engine.state.as_str() {
        "ready" => line,
        "cannot_run" => line.and(Style::Bad, "  cannot run here"),
        state => line.and(Style::Warn, format!("  {state}")),
    };
    match (&engine.detail, engine.self_test) {
        (Some(detail), _) => line.and(Style::Plain, format!(": {detail}")),
        (None, true) => line.and(Style::Dim, "  a self-test model, not an assistant"),
        (None, false) => line,
    }
}

fn self_test(test: &SelfTest) -> Line {
    let detail = |state: &str| match &test.detail {
        Some(detail) => format!("{state}: {detail}"),
        None => state.to_owned(),
    };
    match test.state.as_str() {
        "passed" => row("Self-test", Style::Good, "passed").and(Style::Plain, speed(test)),
        "failed" => row("Self-test", Style::Bad, &detail("failed")),
        "running" => row("Self-test", Style::Warn, &detail("running")),
        _ => row("Self-test", Style::Warn, &detail("waits for the model")),
    }
}

fn speed(test: &SelfTest) -> String {
    let part = |what: &str, rate: Option<f64>| match rate {
        Some(rate) => format!("  {what} {rate:.1} tokens/s"),
        None => String::new(),
    };
    let prefill = part("reads", test.prefill_tokens_per_s);
    let decode = part("writes", test.decode_tokens_per_s);
    format!("  {prefill}{decode}")
}

fn memory(memory: Memory) -> Line {
    let total = memory.total_bytes.max(1);
    let used = total.saturating_sub(memory.available_bytes);
    let cells = u128::from(used) * GAUGE_COLUMNS as u128 / u128::from(total);
    let full = usize::try_from(cells)
        .unwrap_or(GAUGE_COLUMNS)
        .min(GAUGE_COLUMNS);
    let style = if used > total / 10 * 9 {
        Style::Bad
    } else {
        Style::Good
    };
    row("Memory", style, &"█".repeat(full))
        .and(Style::Dim, "░".repeat(GAUGE_COLUMNS - full))
        .and(
            Style::Plain,
            format!("  {} of {} MiB used", mib(used), mib(memory.total_bytes)),
        )
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// What ready waits for, in sentences; never empty.
pub(super) fn missing(picture: &Picture) -> Vec<String> {
    match &picture.agent {
        Agent::Answers(status) if !status.missing.is_empty() => status.missing.clone(),
        Agent::Answers(_) => vec!["the agent says that it is not ready yet".to_owned()],
        Agent::Silent { reason, .. } => {
            vec![format!(
                "the agent does not answer ({reason}); it is restarted by itself"
            )]
        }
        Agent::NotYet => vec![starting(picture)],
    }
}

/// What PID 1 is at, before the agent speaks.
fn starting(picture: &Picture) -> String {
    let names: Vec<&str> = picture
        .services()
        .filter(|unit| matches!(unit.state.as_str(), "starting" | "backoff" | "failed"))
        .map(|unit| unit.short_name())
        .collect();
    match names.as_slice() {
        [] => "starting".to_owned(),
        names => format!("starting {}", names.join(", ")),
    }
}
