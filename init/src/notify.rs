//! sd_notify(3) datagrams: `KEY=value` lines, of which the known ones count.

use std::time::Duration;

use crate::supervisor::Notice;

/// Longest `STATUS=` kept; it is copied into every `services.json`.
const STATUS_MAX_BYTES: usize = 200;

/// The notices in `datagram`, in order. Unknown keys are dropped: the protocol grows, and senders may be newer.
pub fn parse(datagram: &[u8]) -> Vec<Notice> {
    datagram
        .split(|byte| *byte == b'\n')
        .filter_map(|line| notice(std::str::from_utf8(line).ok()?))
        .collect()
}

/// What a datagram wants done with the descriptors that came with it or before: the file descriptor store of
/// sd_pid_notify_with_fds(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRequest {
    /// `FDSTORE=1`, under `FDNAME=` or `stored`.
    Keep(String),
    /// `FDSTOREREMOVE=1` with `FDNAME=`.
    Remove(String),
}

/// The store request in `datagram`, if there is one.
pub fn store_request(datagram: &[u8]) -> Option<StoreRequest> {
    let lines = || {
        datagram
            .split(|byte| *byte == b'\n')
            .filter_map(|line| std::str::from_utf8(line).ok())
    };
    let name = lines().find_map(|line| line.strip_prefix("FDNAME="));
    // As sd_pid_notify_with_fds(3): at most 255 printable characters, no colon, which separates names.
    let valid = |name: &&str| {
        name.len() <= 255
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':')
    };
    let name = name.filter(valid).unwrap_or("stored").to_owned();
    if lines().any(|line| line == "FDSTORE=1") {
        Some(StoreRequest::Keep(name))
    } else if lines().any(|line| line == "FDSTOREREMOVE=1") {
        Some(StoreRequest::Remove(name))
    } else {
        None
    }
}

fn notice(line: &str) -> Option<Notice> {
    match line.split_once('=')? {
        ("READY", "1") => Some(Notice::Ready),
        ("STOPPING", "1") => Some(Notice::Stopping),
        ("WATCHDOG", "1") => Some(Notice::Watchdog),
        ("STATUS", text) => Some(Notice::Status(shortened(text))),
        ("EXTEND_TIMEOUT_USEC", span) => span
            .parse()
            .ok()
            .map(|us| Notice::ExtendTimeout(Duration::from_micros(us))),
        _ => None,
    }
}

fn shortened(text: &str) -> String {
    let clean = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short = String::new();
    for letter in clean {
        if short.len() + letter.len_utf8() > STATUS_MAX_BYTES {
            break;
        }
        short.push(letter);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_keys_in_order() {
        let found =
            parse(b"STATUS=loading 40%\nREADY=1\nMAINPID=5\n\nREADY=0\nEXTEND_TIMEOUT_USEC=1500\n");
        let expected = [
            Notice::Status("loading 40%".to_owned()),
            Notice::Ready,
            Notice::ExtendTimeout(Duration::from_micros(1500)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn descriptors_are_kept_under_their_name() {
        assert_eq!(
            store_request(b"FDSTORE=1\nFDNAME=a"),
            Some(StoreRequest::Keep("a".to_owned()))
        );
        assert_eq!(
            store_request(b"FDNAME=a:b\nFDSTORE=1"),
            Some(StoreRequest::Keep("stored".to_owned()))
        );
        assert_eq!(
            store_request(b"FDSTOREREMOVE=1\nFDNAME=a"),
            Some(StoreRequest::Remove("a".to_owned()))
        );
        assert_eq!(store_request(b"READY=1"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            let _ = store_request(&bytes);
            for notice in parse(&bytes) {
                if let Notice::Status(text) = notice {
                    prop_assert!(text.len() <= STATUS_MAX_BYTES);
                }
            }
        }
    }
}
