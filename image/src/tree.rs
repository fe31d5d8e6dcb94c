//! Copies and lists file trees the same way everywhere: sorted, root-owned, one time stamp.

use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// All paths below `dir`, relative to it, sorted; parents come before their children.
///
/// # Errors
/// When a folder cannot be listed.
pub fn walk(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = dir.join(&relative);
        for entry in fs::read_dir(&path).with_context(|| format!("list {}", path.display()))? {
            let entry = entry.with_context(|| format!("list {}", path.display()))?;
            let child = relative.join(entry.file_name());
            if entry
                .file_type()
                .with_context(|| format!("inspect {}", child.display()))?
                .is_dir()
            {
                open.push(child.clone());
            }
            found.push(child);
        }
    }
    found.sort();
    Ok(found)
}

/// Copies one file, symbolic link or (empty) folder, making its parents.
///
/// # Errors
/// When `from` is something else, or cannot be read, or `to` cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let meta = from
        .symlink_metadata()
        .with_context(|| format!("inspect {}", from.display()))?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target =
            fs::read_link(from).with_context(|| format!("read link {}", from.display()))?;
        if to.symlink_metadata().is_ok() {
            fs::remove_file(to).with_context(|| format!("replace {}", to.display()))?;
        }
        symlink(target, to).with_context(|| format!("link {}", to.display()))
    } else if kind.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))
    } else if kind.is_file() {
        fs::copy(from, to)
            .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        Ok(())
    } else {
        bail!("{} is neither file, link nor folder", from.display())
    }
}

/// Copies everything below `from` over `to`.
///
/// # Errors
/// As [`copy`].
pub fn overlay(from: &Path, to: &Path) -> Result<()> {
    for relative in walk(from)? {
        copy(&from.join(&relative), &to.join(&relative))?;
    }
    Ok(())
}

/// Gives every entry the same time and a mode that does not depend on the builder's umask:
/// 0755 for folders and programs, 0644 for the rest. No setuid bit survives this.
///
/// # Errors
/// When an entry cannot be changed.
pub fn normalize(dir: &Path, epoch: u64) -> Result<()> {
    let time = UNIX_EPOCH + Duration::from_secs(epoch);
    // Children first: changing them would touch their parent's time.
    let mut paths = walk(dir)?;
    paths.reverse();
    for path in paths
        .iter()
        .map(|relative| dir.join(relative))
        .chain([dir.to_path_buf()])
    {
        let meta = path
            .symlink_metadata()
            .with_context(|| format!("inspect {}", path.display()))?;
        if meta.file_type().is_symlink() {
            continue; // The packers take a link's time from the epoch they are given.
        }
        let runs = meta.is_dir() || meta.permissions().mode() & 0o111 != 0;
        let mode = if runs { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .and_then(|()| fs::File::open(&path))
            .and_then(|file| file.set_modified(time))
            .with_context(|| format!("normalize {}", path.display()))?;
    }
    Ok(())
}
