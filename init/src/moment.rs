//! A point in time since the machine started, the only clock PID 1's decisions use.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds of `CLOCK_BOOTTIME`: never stepped, so no clock change can fire or hold back a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    /// Since the kernel started.
    pub uptime_ms: u64,
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Moment {
            uptime_ms: self.uptime_ms.saturating_add(ms),
        }
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.uptime_ms.saturating_sub(earlier.uptime_ms))
    }
}
