//! When certificates hold. A node's clock may be wrong until NTP has answered, so a window reaches
//! far to both sides of what the clock says, and is moved when the clock nears its end.

use time::{Duration, OffsetDateTime};

/// How far before now a server certificate starts.
const BEFORE: Duration = Duration::days(400);
/// How far after now it ends. Apple refuses server certificates over 825 days in all
/// ([support article](https://support.apple.com/en-us/103769)).
const AFTER: Duration = Duration::days(420);
/// A certificate this close to either end is issued again.
const MARGIN: Duration = Duration::days(30);
/// The authority starts before the first release of this software: 2024-01-01.
const AUTHORITY_START_UNIX: i64 = 1_704_067_200;
/// The authority ends with the last date that X.509 writes as `UTCTime`: 2049-12-31.
const AUTHORITY_END_UNIX: i64 = 2_524_521_600;

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Window {
    /// The authority's window, the same on every node whatever its clock says.
    pub(crate) fn of_authority() -> Window {
        Window {
            not_before: from_unix(AUTHORITY_START_UNIX),
            not_after: from_unix(AUTHORITY_END_UNIX),
        }
    }

    /// A server certificate's window around `now`, within the authority's.
    pub(crate) fn of_server(now: OffsetDateTime) -> Window {
        let authority = Window::of_authority();
        let now = now.clamp(authority.not_before, authority.not_after);
        Window {
            not_before: now.saturating_sub(BEFORE).max(authority.not_before),
            not_after: now.saturating_add(AFTER).min(authority.not_after),
        }
    }

    /// Whether the window is still good to be used at `now`.
    pub(crate) fn covers(&self, now: OffsetDateTime) -> bool {
        let authority = Window::of_authority();
        let starts = self.not_before.saturating_add(MARGIN) <= now
            || self.not_before == authority.not_before;
        let ends =
            now <= self.not_after.saturating_sub(MARGIN) || self.not_after == authority.not_after;
        starts && ends
    }

    /// `start end` in seconds since 1970, as kept beside the certificate.
    pub(crate) fn to_text(self) -> String {
        format!(
            "{} {}",
            self.not_before.unix_timestamp(),
            self.not_after.unix_timestamp()
        )
    }

    /// The reverse of [`Window::to_text`].
    pub(crate) fn parse(text: &str) -> Option<Window> {
        let (start, end) = text.split_once(' ')?;
        let parse = |text: &str| OffsetDateTime::from_unix_timestamp(text.parse().ok()?).ok();
        Some(Window {
            not_before: parse(start)?,
            not_after: parse(end)?,
        })
    }
}

fn from_unix(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: i64) -> OffsetDateTime {
        from_unix(AUTHORITY_START_UNIX) + Duration::days(days)
    }

    #[test]
    fn a_clock_a_year_off_needs_no_new_certificate() {
        let window = Window::of_server(day(800));
        assert!(window.covers(day(800 - 365)));
        assert!(window.covers(day(800 + 365)));
        assert!(!window.covers(day(800 - 380)));
        assert!(!window.covers(day(800 + 400)));
    }

    #[test]
    fn no_server_certificate_exceeds_what_clients_accept() {
        for days in [-9_000, 0, 1, 400, 3_000, 9_400, 40_000] {
            let window = Window::of_server(day(days));
            let whole = window.not_after - window.not_before;
            assert!(
                whole > Duration::ZERO && whole <= Duration::days(825),
                "day {days}"
            );
        }
    }

    #[test]
    fn a_clock_outside_the_authority_does_not_reissue_for_ever() {
        for days in [-9_000, 40_000] {
            assert!(Window::of_server(day(days)).covers(day(days)), "day {days}");
        }
    }

    #[test]
    fn text_is_read_back() {
        let window = Window::of_server(day(800));
        assert_eq!(Window::parse(&window.to_text()), Some(window));
        assert_eq!(Window::parse("1"), None);
        assert_eq!(Window::parse("a b"), None);
    }
}
