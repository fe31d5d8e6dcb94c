//! Where build output lives, and what identifies the source.

use crate::cmd;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The build cache: `$MNEMOS_CACHE`, by default `~/.cache/mnemos`. Shared by all checkouts.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache, creating its folder.
    ///
    /// # Errors
    /// When neither `MNEMOS_CACHE` nor `HOME` is set, or the folder cannot be made.
    pub fn open() -> Result<Cache> {
        let root = match (std::env::var_os("MNEMOS_CACHE"), std::env::var_os("HOME")) {
            (Some(path), _) if !path.is_empty() => PathBuf::from(path),
            (_, Some(home)) => Path::new(&home).join(".cache/mnemos"),
            _ => bail!("no place for build output: set MNEMOS_CACHE to a folder with 12 GB free"),
        };
        if !root.is_absolute() {
            bail!("MNEMOS_CACHE is {}: give an absolute path", root.display());
        }
        fs::create_dir_all(&root)
            .with_context(|| format!("create the cache {}", root.display()))?;
        Ok(Cache { root })
    }

    /// A folder of the cache, created if missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Waits until no other build uses the cache. Released when the file is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!(
                "  … another build uses {}; waiting for it",
                self.root.display()
            );
            file.lock()
                .with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// The checkout this program was built from, or the one above the current folder.
///
/// # Errors
/// When the current folder is not inside a MNEMOS checkout.
pub fn checkout() -> Result<PathBuf> {
    let start = std::env::current_dir().context("find the current folder")?;
    let found = start
        .ancestors()
        .find(|path| path.join("image/packages/node.list").is_file());
    found.map(Path::to_path_buf).with_context(|| {
        format!(
            "{} is not inside a MNEMOS checkout: change into one",
            start.display()
        )
    })
}

/// `SOURCE_DATE_EPOCH`: from the environment, else the time of the last commit, in seconds.
///
/// # Errors
/// When neither is available, as in an unpacked archive without the variable.
pub fn source_date_epoch(checkout: &Path) -> Result<u64> {
    if let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") {
        return value
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {value}: give seconds since 1970"));
    }
    let mut git = cmd::new("git");
    git.arg("-C")
        .arg(checkout)
        .args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"]);
    let printed = cmd::output(git)
        .context("read the time of the last commit; outside git set SOURCE_DATE_EPOCH")?;
    let printed = String::from_utf8_lossy(&printed);
    printed
        .trim()
        .parse()
        .with_context(|| format!("git printed {printed:?} as commit time"))
}
