//! PID 1 of a MNEMOS node: unit files, the supervisor, and the kernel side that carries out its decisions.
//!
//! Deciding is pure (`unit`, `supervisor`, `condition`, `notify`, `identity`, `report`); acting is thin (`kernel`,
//! `boot`, `console`); `sys` holds the only unsafe code.
//!
//! **Invariants.** PID 1 never exits and never blocks but in `Kernel::wait`: it opens nothing on a disk or
//! network file system. It parses no bytes from the network. Only its main thread reaps.

pub mod accounts;
pub mod boot;
pub mod condition;
pub mod console;
pub mod emergency;
pub mod identity;
pub mod kernel;
pub mod moment;
pub mod notify;
pub mod report;
pub mod supervisor;
pub mod sys;
pub mod unit;

pub use unit::{LoadUnitError, UnitSet, load_dir};

/// The error and all its causes, `outer: middle: inner`, for one log line.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
