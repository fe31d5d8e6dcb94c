//! What the supervisor shows of its units.

use super::{Run, State, Supervisor};
use crate::moment::Moment;
use crate::unit::UnitId;

/// One unit for `services.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReport {
    /// Which unit.
    pub id: UnitId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The word for its state.
    pub state: &'static str,
    /// When it entered that state.
    pub since: Moment,
    /// How often it was started again.
    pub restarts: u32,
    /// Its process.
    pub run: Option<Run>,
    /// Its last `STATUS=`.
    pub status: Option<String>,
    /// Why it waits, was skipped or failed.
    pub detail: Option<String>,
}

impl Supervisor<'_> {
    /// All units, in order of names.
    pub fn report(&self) -> Vec<UnitReport> {
        let mut rows: Vec<UnitReport> = self.slots.keys().map(|id| self.report_unit(*id)).collect();
        rows.sort_by(|left, right| left.name.cmp(&right.name));
        rows
    }

    fn report_unit(&self, id: UnitId) -> UnitReport {
        let unit = self.units.unit(id);
        let slot = &self.slots[&id];
        let detail = match slot.state {
            State::Waiting => self
                .blocker(id)
                .map(|other| format!("waits for {}", self.name(other))),
            _ => slot.detail.clone(),
        };
        UnitReport {
            id,
            name: unit.name.clone(),
            description: unit.description.clone(),
            state: slot.state.word(),
            since: slot.since,
            restarts: slot.starts.saturating_sub(1),
            run: slot.state.run(),
            status: slot.status.clone(),
            detail,
        }
    }
}
