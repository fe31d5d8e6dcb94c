//! What a person sees while something takes long: the step, how long it runs, its last line.

use anyhow::Result;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Redrawing more often than this only makes a terminal flicker.
const REDRAW: Duration = Duration::from_millis(100);
/// Without a terminal (CI), a line this often shows that work goes on.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// One running step. Made by [`step`].
pub struct Step {
    name: String,
    started: Instant,
    drawn: Cell<Instant>,
    terminal: bool,
}

impl Step {
    /// Shows `line` as the latest news of this step.
    pub fn note(&self, line: &str) {
        let interval = if self.terminal { REDRAW } else { HEARTBEAT };
        if self.drawn.get().elapsed() < interval || line.trim().is_empty() {
            return;
        }
        self.drawn.set(Instant::now());
        let seconds = self.started.elapsed().as_secs();
        let line: String = line.chars().filter(|c| !c.is_control()).take(90).collect();
        let mut err = std::io::stderr().lock();
        // Progress is a courtesy: a closed stderr must not fail the build.
        let _ = if self.terminal {
            write!(err, "\r\x1b[K  … {} ({seconds} s)  {line}", self.name)
        } else {
            writeln!(err, "  … {} ({seconds} s)  {line}", self.name)
        };
    }
}

/// Runs `work` as a named step; prints its name first and its duration after it.
///
/// # Errors
/// Those of `work`.
pub fn step<T>(name: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    let terminal = std::io::stderr().is_terminal();
    let now = Instant::now();
    let step = Step {
        name: name.to_owned(),
        started: now,
        drawn: Cell::new(now),
        terminal,
    };
    if terminal {
        eprint!("  … {name}");
    }
    let result = work(&step);
    let mark = if result.is_ok() { "✓" } else { "✗" };
    let clear = if terminal { "\r\x1b[K" } else { "" };
    eprintln!(
        "{clear}  {mark} {name} ({:.1} s)",
        now.elapsed().as_secs_f64()
    );
    result
}
