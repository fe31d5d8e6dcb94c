//! The values directives take: durations, sizes, booleans, command lines, capabilities.

use std::time::Duration;

use super::model::{Command, MemoryLimit};

/// Capability names in the order of their numbers (`linux/capability.h`, 41 of them since Linux 5.9).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// `yes`, `no` and systemd's other spellings.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "yes" | "true" | "on" => Some(true),
        "0" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// A time span: seconds, or numbers with units such as `1min 30s`. `Some(None)` is `infinity`.
pub(super) fn duration(text: &str) -> Option<Option<Duration>> {
    if text == "infinity" {
        return Some(None);
    }
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let tail = &rest[digits..];
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let part = match &tail[..letters] {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "" | "s" | "sec" => Duration::from_secs(number),
            "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
            "h" | "hr" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail[letters..].trim_start();
    }
    Some(Some(total))
}

/// Bytes with an optional K, M, G or T (powers of 1024).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()? {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        text
    } else {
        &text[..text.len() - 1]
    };
    number(digits)?.checked_mul(1 << shift)
}

/// An unsigned decimal number without a sign.
pub(super) fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Bytes, `infinity` as the largest number.
pub(super) fn bytes_or_infinity(text: &str) -> Option<u64> {
    if text == "infinity" {
        Some(u64::MAX)
    } else {
        bytes(text)
    }
}

/// Bytes, percent of the machine's memory, or `infinity`.
pub(super) fn memory(text: &str) -> Option<MemoryLimit> {
    if text == "infinity" {
        return Some(MemoryLimit::Infinity);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = number(percent)?
            .try_into()
            .ok()
            .filter(|p| (1..=100).contains(p))?;
        return Some(MemoryLimit::Percent(percent));
    }
    bytes(text).map(MemoryLimit::Bytes)
}

/// Octal permission bits, at most 07777.
pub(super) fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
}

/// Capability names to a bit mask; a leading `~` inverts the list, as in systemd. Empty is none.
pub(super) fn capabilities(text: &str) -> Option<u64> {
    let (inverted, names) = match text.strip_prefix('~') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut mask = 0_u64;
    for name in names.split_whitespace() {
        let short = name.strip_prefix("CAP_")?;
        mask |= 1 << CAPABILITIES.iter().position(|known| *known == short)?;
    }
    let all = (1_u64 << CAPABILITIES.len()) - 1;
    Some(if inverted { all & !mask } else { mask })
}

/// Splits on white space; `"…"` and `'…'` group. No escapes: a backslash or an open quote is refused.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (_, '\\') => return None,
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { None } else { Some(words) }
}

/// An `ExecStart=` line: `-` first means that failure is no failure; the program is an absolute path.
/// `$` is refused, since nothing here expands variables.
pub(super) fn command(text: &str) -> Option<Command> {
    let (ignore_failure, line) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let argv = words(line)?;
    let fits = argv.first()?.starts_with('/') && !line.contains(['$', '\0']);
    fits.then_some(Command {
        argv,
        ignore_failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Some(Some(Duration::from_secs(90))));
        assert_eq!(duration("1min 30s"), Some(Some(Duration::from_secs(90))));
        assert_eq!(duration("250ms"), Some(Some(Duration::from_millis(250))));
        assert_eq!(duration("infinity"), Some(None));
        for bad in [
            "",
            "s",
            "-1",
            "1 fortnight",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("512"), Some(512));
        assert_eq!(bytes("2G"), Some(2 << 30));
        assert_eq!(memory("60%"), Some(MemoryLimit::Percent(60)));
        assert_eq!(memory("infinity"), Some(MemoryLimit::Infinity));
        for bad in ["", "K", "+5", "0%", "101%", "1.5G", "99999999999999T"] {
            assert_eq!(memory(bad), None, "{bad}");
        }
    }

    #[test]
    fn capability_masks() {
        assert_eq!(capabilities("CAP_CHOWN CAP_NET_ADMIN"), Some(1 | 1 << 12));
        assert_eq!(capabilities("~CAP_CHOWN"), Some((1 << 41) - 2));
        assert_eq!(capabilities("NET_ADMIN"), None);
        assert_eq!(capabilities(""), Some(0));
    }

    #[test]
    fn command_lines() {
        let parsed = command("-/bin/a 'b c' \"\" d\"e\"f").unwrap();
        assert!(parsed.ignore_failure);
        assert_eq!(parsed.argv, ["/bin/a", "b c", "", "def"]);
        for bad in ["a b", "", "/a \"b", "/a $HOME", "/a \\x41"] {
            assert_eq!(command(bad), None, "{bad}");
        }
    }
}
