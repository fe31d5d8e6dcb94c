//! What PID 1 tells others: `services.json` for programs, lines on the serial console for programs and people.

use serde::Serialize;

use crate::moment::Moment;
use crate::supervisor::{StageState, UnitReport};

/// The whole of `/run/mnemos/init/services.json`.
#[derive(Serialize)]
struct Services<'a> {
    uptime_ms: u64,
    units: Vec<UnitRow<'a>>,
    problems: &'a [String],
}

#[derive(Serialize)]
struct UnitRow<'a> {
    name: &'a str,
    description: &'a str,
    state: &'a str,
    since_ms: u64,
    restarts: u32,
    main_pid: Option<i32>,
    status: Option<&'a str>,
    detail: Option<&'a str>,
}

/// The text of `services.json`; `main_pid` looks up the process of a row.
pub fn services_json(
    now: Moment,
    rows: &[UnitReport],
    main_pid: impl Fn(&UnitReport) -> Option<i32>,
    problems: &[String],
) -> String {
    let units = rows
        .iter()
        .map(|row| unit_row(row, main_pid(row)))
        .collect();
    json(&Services {
        uptime_ms: now.uptime_ms,
        units,
        problems,
    })
}

fn unit_row(row: &UnitReport, main_pid: Option<i32>) -> UnitRow<'_> {
    UnitRow {
        name: &row.name,
        description: &row.description,
        state: row.state,
        since_ms: row.since.uptime_ms,
        restarts: row.restarts,
        main_pid,
        status: row.status.as_deref(),
        detail: row.detail.as_deref(),
    }
}

/// One line on the serial console. The field `mnemos` comes first: readers find lines by it.
#[derive(Serialize)]
#[serde(untagged)]
enum SerialLine<'a> {
    Stage {
        mnemos: &'static str,
        stage: &'a str,
        state: &'static str,
        uptime_ms: u64,
        detail: &'a str,
    },
    Emergency {
        mnemos: &'static str,
        reason: &'a str,
        uptime_ms: u64,
    },
}

/// `{"mnemos":"stage",…}`.
pub fn stage_json(now: Moment, stage: &str, state: StageState, detail: &str) -> String {
    let uptime_ms = now.uptime_ms;
    json(&SerialLine::Stage {
        mnemos: "stage",
        stage,
        state: state.word(),
        uptime_ms,
        detail,
    })
}

/// `{"mnemos":"emergency",…}`.
pub fn emergency_json(now: Moment, reason: &str) -> String {
    json(&SerialLine::Emergency {
        mnemos: "emergency",
        reason,
        uptime_ms: now.uptime_ms,
    })
}

/// The same stage for a person: `[   3.2 s] network: ok`.
pub fn stage_text(now: Moment, stage: &str, state: StageState, detail: &str) -> String {
    let (seconds, tenths) = (now.uptime_ms / 1000, now.uptime_ms % 1000 / 100);
    let colon = if detail.is_empty() { "" } else { ": " };
    format!(
        "[{seconds:4}.{tenths} s] {stage:<10} {}{colon}{detail}",
        state.word()
    )
}

fn json(value: &impl Serialize) -> String {
    // These types hold only numbers and strings, which cannot fail to serialize.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::UnitId;

    #[test]
    fn stage_lines_start_with_the_marker() {
        let now = Moment { uptime_ms: 3210 };
        assert_eq!(
            stage_json(now, "root", StageState::Ok, "a \"b\""),
            r#"{"mnemos":"stage","stage":"root","state":"ok","uptime_ms":3210,"detail":"a \"b\""}"#
        );
        assert_eq!(
            emergency_json(now, "x"),
            r#"{"mnemos":"emergency","reason":"x","uptime_ms":3210}"#
        );
        assert_eq!(
            stage_text(now, "root", StageState::Ok, "verified"),
            "[   3.2 s] root       ok: verified"
        );
    }

    #[test]
    fn services_have_every_key() {
        let row = UnitReport {
            id: UnitId(0),
            name: "a.service".to_owned(),
            description: "A".to_owned(),
            state: "running",
            since: Moment { uptime_ms: 7 },
            restarts: 2,
            run: None,
            status: None,
            detail: Some("why".to_owned()),
        };
        let text = services_json(
            Moment { uptime_ms: 9 },
            &[row],
            |_| Some(41),
            &["add memory".to_owned()],
        );
        let expected = concat!(
            r#"{"uptime_ms":9,"units":[{"name":"a.service","description":"A","state":"running","since_ms":7,"#,
            r#""restarts":2,"main_pid":41,"status":null,"detail":"why"}],"problems":["add memory"]}"#
        );
        assert_eq!(text, expected);
    }
}
