//! The outer syntax of a unit file: sections, assignments, comments, continued lines.

use super::error::Refusal;

/// One `Key=value` with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Section name without brackets.
    pub(super) section: String,
    /// Left of the first `=`, trimmed.
    pub(super) key: String,
    /// Right of it, trimmed; continued lines joined by one space.
    pub(super) value: String,
    /// Line number of the key, from 1.
    pub(super) line: usize,
}

/// Splits `text` into assignments. Anything that is neither a comment, a section nor an assignment is refused.
///
/// # Errors
/// The line number and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Assignment>, (usize, Refusal)> {
    let mut section: Option<String> = None;
    let mut assignments = Vec::new();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or((number, Refusal::Syntax))?;
            section = Some(name.to_owned());
            continue;
        }
        let mut joined = line.to_owned();
        while let Some(start) = joined.strip_suffix('\\') {
            let (_, next) = lines.next().ok_or((number, Refusal::UnfinishedLine))?;
            joined = format!("{} {next}", start.trim_end());
        }
        let (key, value) = joined.split_once('=').ok_or((number, Refusal::Syntax))?;
        let section = section.clone().ok_or((number, Refusal::NoSection))?;
        assignments.push(Assignment {
            section,
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            line: number,
        });
    }
    Ok(assignments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_continued_lines_and_skips_comments() {
        let found = parse("# c\n; d\n[Service]\nExecStart=/a \\\n  b\nType = notify\n").unwrap();
        let flat: Vec<_> = found
            .iter()
            .map(|a| (a.key.as_str(), a.value.as_str(), a.line))
            .collect();
        assert_eq!(flat, [("ExecStart", "/a b", 4), ("Type", "notify", 6)]);
    }

    #[test]
    fn refuses_what_is_no_assignment() {
        assert_eq!(parse("A=b"), Err((1, Refusal::NoSection)));
        assert_eq!(parse("[Unit]\nnonsense"), Err((2, Refusal::Syntax)));
        assert_eq!(parse("[Unit\n"), Err((1, Refusal::Syntax)));
        assert_eq!(parse("[Unit]\nA=b\\"), Err((2, Refusal::UnfinishedLine)));
    }
}
