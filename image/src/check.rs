//! Checks what is in the packed root image against `image/root.expected`.
//!
//! The image itself is unpacked and listed, not what was meant to go into it. Modules and firmware
//! are covered by `modules.list`; everything else must be expected by name.

use crate::assemble::Artifacts;
use crate::builder::{Bind, Builder};
use crate::cache::{Cache, checkout};
use crate::packages::Scratch;
use crate::{cmd, progress, tree};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Programs that would give whoever reaches them a way to run others.
const FORBIDDEN: [&str; 12] = [
    "sh", "bash", "dash", "busybox", "dpkg", "apt", "apt-get", "perl", "python3", "sudo", "su",
    "login",
];

/// Compares; prints what is unexpected and what is missing.
///
/// # Errors
/// When anything differs, or the image cannot be unpacked.
pub fn run(artifacts: &Artifacts) -> Result<()> {
    let listed = progress::step("list the root image", |_| list(artifacts))?;
    let path = checkout()?.join("image/root.expected");
    let expected = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let expected: BTreeSet<&str> = expected
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
    let mut differences: Vec<String> = listed
        .difference(&expected)
        .map(|line| format!("unexpected: {line}"))
        .collect();
    differences.extend(
        expected
            .difference(&listed)
            .map(|line| format!("missing:    {line}")),
    );
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "the root image differs from image/root.expected:\n{}\nif this is what you want, type: cargo image check --update",
        differences.join("\n")
    )
}

/// Rewrites `image/root.expected` from what the image holds.
///
/// # Errors
/// When the image breaks a rule that no list can allow, or a file cannot be written.
pub fn update(artifacts: &Artifacts) -> Result<()> {
    let listed = list(artifacts)?;
    let path = checkout()?.join("image/root.expected");
    let header = "# Everything in the root image but modules and firmware: kind, path, link target.\n\
                  # d folder, f file, x program, l link. Rewritten by: cargo image check --update\n";
    let lines: Vec<String> = listed.into_iter().collect();
    fs::write(&path, format!("{header}{}\n", lines.join("\n")))
        .with_context(|| format!("write {}", path.display()))
}

fn list(artifacts: &Artifacts) -> Result<BTreeSet<String>> {
    let cache = Cache::open()?;
    let _held = cache.lock()?;
    let builder = Builder::prepare(&cache, &checkout()?, artifacts.epoch)?;
    let scratch = Scratch::new(&cache, "check")?;
    let image_dir = artifacts
        .root_image
        .parent()
        .context("a root image without a folder")?;
    let binds = [
        Bind {
            host: &scratch.0,
            inside: "/work",
            writable: true,
        },
        Bind {
            host: image_dir,
            inside: "/src",
            writable: false,
        },
    ];
    let mut fsck = builder.command("/work", &binds, "fsck.erofs");
    fsck.args(["--extract=/work/root", "/src/root.erofs"]);
    cmd::output(fsck)?;
    let root = scratch.0.join("root");
    let mut lines = BTreeSet::new();
    for path in tree::walk(&root)? {
        describe(&root, &path)?.map(|line| lines.insert(line));
    }
    Ok(lines)
}

/// One line of the list; `None` for what `modules.list` covers. Fails on what no list can allow.
fn describe(root: &Path, path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let full = root.join(path);
    let meta = full
        .symlink_metadata()
        .with_context(|| format!("inspect {shown}"))?;
    let mode = meta.permissions().mode();
    if mode & 0o6000 != 0 {
        bail!("{shown} is setuid or setgid: no program of the node may be");
    }
    if meta.uid() != 0 || meta.gid() != 0 || (mode & 0o022 != 0 && !meta.file_type().is_symlink()) {
        bail!(
            "{shown} (mode {mode:o}, owner {}:{}) can be changed by others than root",
            meta.uid(),
            meta.gid()
        );
    }
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if FORBIDDEN.contains(&name.as_str()) && !meta.is_dir() {
        bail!("{shown}: the node has no shell, no package manager and no script language");
    }
    if ["usr/lib/modules/", "usr/lib/firmware/"]
        .iter()
        .any(|dir| path.to_string_lossy().starts_with(dir))
    {
        return Ok(None);
    }
    Ok(Some(if meta.file_type().is_symlink() {
        let target = fs::read_link(&full).with_context(|| format!("read link {shown}"))?;
        format!("l {shown} -> {}", target.display())
    } else if meta.is_dir() {
        format!("d {shown}")
    } else if mode & 0o111 != 0 {
        format!("x {shown}")
    } else {
        format!("f {shown}")
    }))
}
