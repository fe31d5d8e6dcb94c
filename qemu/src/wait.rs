//! Polling for conditions that nothing announces, with one deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two polls: short against everything measured here, long for a node that answers a refusal.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `found` until it has an answer.
///
/// # Errors
/// Those of `found`, and the deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "the one pause, between polls of a condition with a deadline"
)]
pub fn poll<T>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = found()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_the_answer_or_the_deadline() {
        let mut left = 2;
        let counted = poll("a count", Duration::from_secs(60), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(counted.unwrap(), "done");
        let late = poll("the moon", Duration::ZERO, || Ok(None::<()>))
            .unwrap_err()
            .to_string();
        assert_eq!(late, "waited 0 s for the moon");
    }
}
