//! Runs tests that share a machine: in order, each by name, all of them even after a failure.

use std::time::Instant;

use anyhow::Result;

use crate::tally::Tally;

/// Names and outcomes of the tests so far.
#[derive(Debug, Default)]
pub struct Runner {
    filters: Vec<String>,
    tally: Tally,
    failures: Vec<(String, String)>,
}

impl Runner {
    /// Runs tests whose name contains one of `filters`, or all if there is none.
    #[must_use]
    pub fn new(filters: Vec<String>) -> Self {
        Self {
            filters,
            ..Self::default()
        }
    }

    /// Whether any of `names` is wanted: a machine that serves none of them need not boot.
    #[must_use]
    pub fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wanted(name))
    }

    /// Runs one test.
    pub fn test(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        if !self.wanted(name) {
            return;
        }
        let started = Instant::now();
        let outcome = test();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.1} s)");
                self.tally.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)");
                self.tally.failed += 1;
                self.failures.push((name.to_owned(), format!("{error:#}")));
            }
        }
    }

    /// Prints failures and the summary line. True if all passed.
    #[must_use]
    pub fn finish(self) -> bool {
        for (name, error) in &self.failures {
            println!("\n---- {name}\n{error}");
        }
        let outcome = if self.tally.failed == 0 {
            "ok"
        } else {
            "FAILED"
        };
        let Tally { passed, failed } = self.tally;
        println!("\ntest result: {outcome}. {passed} passed; {failed} failed");
        failed == 0
    }

    fn wanted(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_stop_the_rest() {
        let mut runner = Runner::new(vec!["api".to_owned()]);
        let mut ran = Vec::new();
        runner.test("api::one", || {
            ran.push(1);
            anyhow::bail!("no")
        });
        runner.test("api::two", || {
            ran.push(2);
            Ok(())
        });
        runner.test("media::three", || {
            ran.push(3);
            Ok(())
        });
        assert!(!runner.wants(&["media::cd"]));
        assert_eq!(
            runner.tally,
            Tally {
                passed: 1,
                failed: 1
            }
        );
        assert!(!runner.finish());
        assert_eq!(ran, [1, 2]);
    }
}
