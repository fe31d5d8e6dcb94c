//! Debian packages: resolve them into a lock, fetch what a lock names, unpack it.
//!
//! A `.deb` lives in the cache as `debs/<sha256>.deb`; a release can ship that folder. apt checks the
//! mirror's signatures when a lock is made; afterwards the SHA-256 is what counts.

use crate::cache::Cache;
use crate::cmd;
use crate::lock::{self, Locked};
use crate::progress::{self, Step};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's release. Its mirror is mmdebstrap's default, or `$MNEMOS_MIRROR`.
const SUITE: &str = "trixie";
/// `non-free-firmware` holds the firmware of network cards.
const COMPONENTS: &str = "main,non-free-firmware";

/// Resolves `<set>.list` (names, one a line) with today's mirror and writes `<set>.lock`.
///
/// # Errors
/// When the mirror does not answer, a name is unknown, or the lock cannot be written.
pub fn refresh(cache: &Cache, packages_dir: &Path, set: &str) -> Result<()> {
    let list = packages_dir.join(format!("{set}.list"));
    let names = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let names: Vec<&str> = names
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let scratch = Scratch::new(cache, "resolve")?;
    progress::step(&format!("resolve the {set} packages"), |step| {
        let mut bootstrap = mmdebstrap("extract");
        bootstrap.arg(format!("--include={}", names.join(",")));
        bootstrap.arg("--skip=download/empty,cleanup/apt");
        cmd::run(step, with_target(bootstrap, &scratch.0.join("root")))
    })?;
    let mut locked = Vec::new();
    for deb in files(&scratch.0.join("root/var/cache/apt/archives"))? {
        if deb.extension().is_some_and(|extension| extension == "deb") {
            locked.push(store(cache, &deb)?);
        }
    }
    if locked.is_empty() {
        bail!(
            "mmdebstrap left no packages for {set}: is {} empty?",
            list.display()
        );
    }
    lock::write(&packages_dir.join(format!("{set}.lock")), locked)
}

/// The unpacked packages of `<set>.lock`, in a folder of the cache named by the lock's hash.
///
/// # Errors
/// When a package is neither in the cache nor on the mirror, or does not have the locked hash.
pub(crate) fn unpacked(cache: &Cache, packages_dir: &Path, set: &str) -> Result<PathBuf> {
    let path = packages_dir.join(format!("{set}.lock"));
    let locked = lock::read(&path)?;
    let digest = sha256_file(&path)?;
    let root = cache.dir("roots")?.join(format!("{set}-{}", &digest[..16]));
    if root.is_dir() {
        return Ok(root);
    }
    fetch(cache, &locked, set)?;
    let scratch = Scratch::new(cache, "unpack")?;
    progress::step(
        &format!("unpack {} packages of the {set} root", locked.len()),
        |step| unpack(cache, &locked, &scratch.0, step),
    )?;
    fs::rename(&scratch.0, &root).with_context(|| format!("put {} in place", root.display()))?;
    Ok(root)
}

fn unpack(cache: &Cache, locked: &[Locked], root: &Path, step: &Step) -> Result<()> {
    // base-files brings the links of the merged /usr, which all others unpack through.
    let first = locked.iter().filter(|package| package.name == "base-files");
    let rest = locked.iter().filter(|package| package.name != "base-files");
    for package in first.chain(rest) {
        step.note(&package.name);
        let mut dpkg = cmd::new("dpkg-deb");
        dpkg.arg("--extract")
            .arg(deb_path(cache, &package.sha256)?)
            .arg(root);
        cmd::output(dpkg)?;
    }
    Ok(())
}

fn fetch(cache: &Cache, locked: &[Locked], set: &str) -> Result<()> {
    let mut missing = Vec::new();
    for package in locked {
        if !deb_path(cache, &package.sha256)?.is_file() {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::new(cache, "fetch")?;
    let debs = scratch.0.join("debs");
    fs::create_dir(&debs).with_context(|| format!("create {}", debs.display()))?;
    let wanted: Vec<String> = missing
        .iter()
        .map(|p| format!("{}={}", p.name, p.version))
        .collect();
    let list = scratch.0.join("wanted");
    fs::write(&list, wanted.join("\n")).with_context(|| format!("write {}", list.display()))?;
    let fetched = progress::step(
        &format!("fetch {} packages of the {set} lock", missing.len()),
        |step| {
            let mut bootstrap = mmdebstrap("custom");
            // $1 is the root mmdebstrap makes; the configuration points apt at it.
            let hook = format!(
                "cd '{}' && APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" xargs -a '{}' apt-get -q -o APT::Sandbox::User=root download",
                debs.display(),
                list.display()
            );
            bootstrap.arg("--customize-hook").arg(hook);
            cmd::run(step, with_target(bootstrap, &scratch.0.join("root")))
        },
    );
    for deb in files(&debs)? {
        store(cache, &deb)?;
    }
    for package in &missing {
        if !deb_path(cache, &package.sha256)?.is_file() {
            let Locked { name, version, .. } = package;
            let gone = anyhow::anyhow!(
                "{name} {version} with the locked hash is neither in the cache nor on the mirror; \
                 if the mirror has a newer version, type: cargo image lock {set}"
            );
            return Err(fetched.err().map_or(gone, |cause| {
                cause.context(format!(
                    "fetch {name} {version}; if the mirror dropped it, type: cargo image lock {set}"
                ))
            }));
        }
    }
    Ok(())
}

fn mmdebstrap(variant: &str) -> Command {
    let mut command = cmd::new("mmdebstrap");
    command.args(["--mode=root", "--format=directory", "--architectures=amd64"]);
    command
        .arg(format!("--variant={variant}"))
        .arg(format!("--components={COMPONENTS}"));
    command
}

/// Adds the positional arguments: suite, target, and another mirror if one is given.
fn with_target(mut command: Command, target: &Path) -> Command {
    command.arg(SUITE).arg(target);
    if let Ok(mirror) = std::env::var("MNEMOS_MIRROR") {
        command.arg(mirror);
    }
    command
}

/// Moves a `.deb` into the cache under its hash.
fn store(cache: &Cache, deb: &Path) -> Result<Locked> {
    let mut query = cmd::new("dpkg-deb");
    query
        .args(["--show", "--showformat=${Package} ${Version}"])
        .arg(deb);
    let shown = String::from_utf8(cmd::output(query)?).context("package name and version")?;
    let (name, version) = shown
        .split_once(' ')
        .with_context(|| format!("dpkg-deb printed {shown:?}"))?;
    let sha256 = sha256_file(deb)?;
    let place = deb_path(cache, &sha256)?;
    fs::copy(deb, place.with_extension("part"))
        .and_then(|_| fs::rename(place.with_extension("part"), &place))
        .with_context(|| format!("store {} in the cache", deb.display()))?;
    Ok(Locked {
        name: name.into(),
        version: version.into(),
        sha256,
    })
}

fn deb_path(cache: &Cache, sha256: &str) -> Result<PathBuf> {
    Ok(cache.dir("debs")?.join(format!("{sha256}.deb")))
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| format!("read {}", path.display()))?;
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of `bytes`, in lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("list {}", dir.display()))?
            .path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A folder of the cache that is gone when this value is.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes an empty folder; what a killed build left there is removed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(cache: &Cache, purpose: &str) -> Result<Scratch> {
        let path = cache.dir("scratch")?.join(purpose);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left over files cost disk space only; `new` removes them next time.
        let _ = fs::remove_dir_all(&self.0);
    }
}
