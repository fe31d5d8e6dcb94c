//! What PID 1 says of its units, from the file it rewrites on each change.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Largest file that is read; PID 1's is below 16 KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct Services {
    #[serde(default)]
    pub(crate) units: Vec<Unit>,
    #[serde(default)]
    pub(crate) problems: Vec<String>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) state: UnitState,
    #[serde(default)]
    pub(crate) since_ms: u64,
    #[serde(default)]
    pub(crate) restarts: u64,
    #[serde(default)]
    pub(crate) main_pid: Option<u32>,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
}

/// PID 1's states of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UnitState {
    Waiting,
    Starting,
    Running,
    Exited,
    Stopping,
    Backoff,
    Stopped,
    Skipped,
    Failed,
}

impl Services {
    /// Reads the file. Without a readable one there are no units and one problem, which says why.
    pub(crate) fn read(path: &Path) -> Services {
        let parsed = File::open(path)
            .and_then(|file| {
                let mut text = String::new();
                file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
                Ok(text)
            })
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        parsed.unwrap_or_else(|reason| Services {
            units: Vec::new(),
            problems: vec![format!(
                "cannot read the state of services from {}: {reason}",
                path.display()
            )],
        })
    }

    pub(crate) fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }
}

impl Unit {
    /// A sentence on a unit that is not as it should be.
    pub(crate) fn problem(&self) -> Option<String> {
        let state = match self.state {
            UnitState::Failed => "failed",
            UnitState::Backoff => "keeps ending and is started again after a pause",
            UnitState::Waiting
            | UnitState::Starting
            | UnitState::Running
            | UnitState::Exited
            | UnitState::Stopping
            | UnitState::Stopped
            | UnitState::Skipped => return None,
        };
        let detail = self
            .detail
            .as_deref()
            .map(|detail| format!(": {detail}"))
            .unwrap_or_default();
        Some(format!(
            "{} {state}{detail}; its lines in the journal say more",
            self.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_1s_file_is_read() {
        let text = r#"{"uptime_ms":1,"units":[{"name":"a.service","description":"A",
            "state":"backoff","since_ms":5,"restarts":2,"main_pid":null,"status":null,
            "detail":"exit status 1"}],"problems":["little memory; give it 2 GiB"]}"#;
        let services: Services = serde_json::from_str(text).unwrap();
        let unit = services.unit("a.service").unwrap();
        assert_eq!((unit.state, unit.restarts), (UnitState::Backoff, 2));
        assert!(
            unit.problem()
                .unwrap()
                .starts_with("a.service keeps ending")
        );
        assert_eq!(services.problems.len(), 1);
    }

    #[test]
    fn a_missing_file_is_a_problem_not_a_panic() {
        let services = Services::read(Path::new("/nonexistent/services.json"));
        assert!(services.units.is_empty());
        assert!(services.problems[0].contains("/nonexistent/services.json"));
    }
}
