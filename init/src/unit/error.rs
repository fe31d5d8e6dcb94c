//! Why a set of unit files was refused.

use std::io;
use std::path::PathBuf;

/// Why a unit file, or the whole set, was refused. One variant for each thing its author can fix.
#[derive(Debug, thiserror::Error)]
pub enum LoadUnitError {
    /// The directory cannot be listed.
    #[error("cannot list unit directory {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read unit file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The name of a file in the directory is not one of a unit.
    #[error("{} is not named like a unit (NAME.service, NAME@.service or NAME.target)", path.display())]
    FileName {
        /// The file.
        path: PathBuf,
    },
    /// A line of the file is outside our subset of the syntax.
    #[error("{}:{line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1; 0 when the file as a whole is meant.
        line: usize,
        /// What is wrong.
        #[source]
        source: Refusal,
    },
    /// A unit names another that no file describes.
    #[error("unit {unit} names {missing} in {directive}=, and there is no such unit")]
    Missing {
        /// The unit that names it.
        unit: String,
        /// `After`, `Requires` …
        directive: &'static str,
        /// What it names.
        missing: String,
    },
    /// The units cannot be put in an order.
    #[error("units form a dependency cycle: {}", cycle.join(" -> "))]
    Cycle {
        /// Names, the first repeated at the end.
        cycle: Vec<String>,
    },
}

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither a comment nor `[Section]` nor `Key=value`.
    #[error("not a comment, a [Section] or Key=value")]
    Syntax,
    /// `\` at the end of the file.
    #[error("the file ends in a continued line")]
    UnfinishedLine,
    /// `Key=value` before the first section.
    #[error("assignment before the first [Section]")]
    NoSection,
    /// A section outside the subset.
    #[error("section [{0}] is not supported for this unit")]
    UnknownSection(String),
    /// A directive outside the subset.
    #[error("directive {0}= is not supported")]
    UnknownDirective(String),
    /// A directive that may be given once was given again.
    #[error("{0}= is given twice")]
    Repeated(String),
    /// A value outside what the directive takes.
    #[error("{key}={value} is not valid, expected {expected}")]
    Value {
        /// The directive.
        key: String,
        /// What it was set to.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A `.service` without a command.
    #[error("the service has no ExecStart=")]
    NoCommand,
    /// Several commands outside `Type=oneshot`.
    #[error("only Type=oneshot takes more than one ExecStart=")]
    ManyCommands,
}
