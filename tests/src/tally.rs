//! How many tests ran, summed over everything that `cargo verify` starts.

use std::fmt;
use std::ops::AddAssign;

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed tests.
    pub passed: u32,
    /// Failed tests.
    pub failed: u32,
}

impl Tally {
    /// Reads the summary line of a test program, `test result: ok. 3 passed; 0 failed; ...`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let counts = line.trim().strip_prefix("test result: ")?;
        let (_, counts) = counts.split_once(". ")?;
        let mut tally = Self::default();
        for part in counts.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => tally.passed = number.parse().ok()?,
                Some((number, "failed")) => tally.failed = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines() {
        let line = "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 20,
                failed: 0
            })
        );
        let line = "test result: FAILED. 2 passed; 1 failed";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 2,
                failed: 1
            })
        );
        assert_eq!(Tally::parse("running 2 tests"), None);
    }
}
