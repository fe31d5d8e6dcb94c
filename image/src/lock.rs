//! The package lock: name, version and SHA-256 of every Debian package, one a line.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Locked {
    /// Debian's package name.
    pub(crate) name: String,
    /// Debian's version string.
    pub(crate) version: String,
    /// SHA-256 of the `.deb`, 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
}

/// Reads a lock file.
///
/// # Errors
/// When the file cannot be read, or a line is not `name version sha256`.
pub(crate) fn read(path: &Path) -> Result<Vec<Locked>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&text).with_context(|| format!("package lock {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Locked>> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| parse_line(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

fn parse_line(line: &str) -> Result<Locked> {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, version, sha256] = words[..] else {
        bail!("{line:?} is not `name version sha256`");
    };
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if sha256.len() != 64 || !sha256.bytes().all(hex) {
        bail!("{sha256:?} is not a SHA-256 in lower-case hexadecimal");
    }
    // Both become part of an apt argument: no option, no pattern, no path.
    let safe = |word: &str, more: &[u8]| {
        word.bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric())
            && word
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    if !safe(name, b"+-.") || !safe(version, b"+-.~:") {
        bail!("{name:?} {version:?} is not a package name and version");
    }
    Ok(Locked {
        name: name.into(),
        version: version.into(),
        sha256: sha256.into(),
    })
}

/// Writes a lock file, sorted by name.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, mut packages: Vec<Locked>) -> Result<()> {
    packages.sort();
    let mut text =
        String::from("# Written by `cargo image lock`. One package a line: name version sha256\n");
    for Locked {
        name,
        version,
        sha256,
    } in packages
    {
        text.push_str(&format!("{name} {version} {sha256}\n"));
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_what_it_documents() {
        let text = format!("# comment\nlibc6 2.41-12+deb13u4 {HASH}\n");
        let expected = Locked {
            name: "libc6".into(),
            version: "2.41-12+deb13u4".into(),
            sha256: HASH.into(),
        };
        assert_eq!(parse(&text).unwrap(), [expected]);
    }

    #[test]
    fn refuses_bad_lines_with_their_number() {
        for line in [
            "libc6 2.41",
            "libc6 2.41 abc",
            &format!("-o 1 {HASH}"),
            &format!("a 1;x {HASH}"),
        ] {
            let error = format!("{:#}", parse(&format!("\n{line}")).unwrap_err());
            assert!(error.starts_with("line 2"), "{error}");
        }
    }
}
