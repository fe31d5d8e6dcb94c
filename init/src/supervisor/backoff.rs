//! How long a failed unit waits: doubling, with jitter, capped, for as long as it takes.

use std::time::Duration;

/// A unit that ran this long counts as healthy again: its next failure is its first. Longer than the largest
/// restart delay, so that a unit which dies a minute after each start still slows down.
pub const STABLE: Duration = Duration::from_secs(60);

/// Where the jitter comes from: splitmix64 (Steele, Lea, Flood 2014), seeded from outside.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// Equal seeds give equal delays.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The delay after the `failures`-th failure in a row (from 1): `first`, doubled each time up to `cap`,
/// then 75 % to 100 % of that, so that units which fell together do not return together.
pub(super) fn delay(
    failures: u32,
    first: Duration,
    cap: Duration,
    jitter: &mut Jitter,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = first.saturating_mul(1 << doublings).min(cap.max(first));
    let percent = u32::try_from(jitter.next() % 26).unwrap_or_default() + 75;
    full.saturating_mul(percent) / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn grows_to_the_cap_and_stays(failures in 1_u32.., seed: u64, first_ms in 1_u64..5000, cap_ms in 5000_u64..100_000) {
            let (first, cap) = (Duration::from_millis(first_ms), Duration::from_millis(cap_ms));
            let waited = delay(failures, first, cap, &mut Jitter::new(seed));
            prop_assert!(waited <= cap);
            prop_assert!(waited >= first.saturating_mul(1 << (failures - 1).min(20)).min(cap) * 3 / 4);
        }
    }

    #[test]
    fn jitter_differs_between_seeds() {
        let wait = |seed| {
            delay(
                5,
                Duration::from_secs(1),
                Duration::from_secs(60),
                &mut Jitter::new(seed),
            )
        };
        assert_ne!(wait(1), wait(2));
        assert_eq!(wait(3), wait(3));
    }
}
