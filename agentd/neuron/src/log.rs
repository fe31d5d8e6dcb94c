//! Log lines on stderr, with the journal's priority in front where stderr goes there.

use std::{env, error::Error, io::Write, sync::LazyLock};

/// Set by whoever connects stderr to the journal; see sd-daemon(3).
static TO_JOURNAL: LazyLock<bool> = LazyLock::new(|| env::var_os("JOURNAL_STREAM").is_some());

/// Something went as it should.
pub fn info(text: &str) {
    line(6, text);
}

/// Something is odd, the work goes on.
pub fn warning(text: &str) {
    line(4, text);
}

/// Something failed.
pub fn error(text: &str) {
    line(3, text);
}

/// The error and all its causes, `outer: middle: inner`.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn line(priority: u8, text: &str) {
    let text = text.replace('\n', " ");
    let line = if *TO_JOURNAL {
        format!("<{priority}>{text}\n")
    } else {
        format!("{text}\n")
    };
    // One write: lines of several threads must not mix. A closed stderr is no reason to stop serving.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
