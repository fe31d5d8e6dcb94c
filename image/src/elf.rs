//! Which shared libraries programs need, followed to the end.

use crate::builder::{Bind, Builder};
use crate::cmd;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the dynamic loader finds libraries in a Debian root (its built-in path), and the private
/// folder that systemd's programs name in their RUNPATH.
const LIBRARY_DIRS: [&str; 2] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
];

/// Paths, relative to `packages`, of all libraries that programs in `staging` need.
///
/// # Errors
/// When a needed library is in no package of the node.
pub(crate) fn libraries(
    builder: &Builder,
    staging: &Path,
    packages: &Path,
    programs: &[PathBuf],
) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut names: BTreeSet<String> = needed(builder, staging, programs)?;
    let mut seen = names.clone();
    while !names.is_empty() {
        let mut added = Vec::new();
        for name in &names {
            added.push(find(packages, name)?);
        }
        names = needed(builder, packages, &added)?
            .difference(&seen)
            .cloned()
            .collect();
        seen.extend(names.iter().cloned());
        found.extend(added);
    }
    Ok(found)
}

fn find(packages: &Path, name: &str) -> Result<PathBuf> {
    let candidates = LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(name));
    let mut existing = candidates.filter(|path| packages.join(path).exists());
    existing.next().with_context(|| {
        format!("library {name} is in no package of the node: add its package to image/packages/node.list and type: cargo image lock node")
    })
}

/// `DT_NEEDED` of files below `root`, read by binutils' readelf. Files that are not ELF need nothing.
fn needed(builder: &Builder, root: &Path, files: &[PathBuf]) -> Result<BTreeSet<String>> {
    if files.is_empty() {
        return Ok(BTreeSet::new());
    }
    let bind = [Bind {
        host: root,
        inside: "/work",
        writable: false,
    }];
    // readelf reports scripts and data files on stderr and fails at the end; only libraries matter,
    // and a program that misses one fails the search above.
    let mut readelf = builder.command("/work", &bind, "sh");
    readelf
        .args(["-c", "readelf -dW \"$@\" 2>/dev/null; true", "readelf"])
        .args(files);
    let printed = cmd::output(readelf)?;
    let mut names = BTreeSet::new();
    for line in String::from_utf8_lossy(&printed)
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
    {
        let Some((_, rest)) = line.split_once('[') else {
            bail!("readelf printed {line:?}")
        };
        names.insert(rest.trim_end().trim_end_matches(']').to_owned());
    }
    Ok(names)
}
