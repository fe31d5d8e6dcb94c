//! The builder root: a locked trixie with compiler and packing tools, entered by bubblewrap.
//!
//! Inside, paths are the same on every host: the checkout at `/src` (read-only), the toolchain at
//! `/rust`, Cargo's home at `/cargo`, build output at `/target`; `/work` is free for a caller's bind.
//! There is no network.

use crate::cache::Cache;
use crate::cmd;
use crate::packages;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `SOURCE_DATE_EPOCH` of compilations. Build scripts of C libraries run again when it changes, and
/// with them half of the engine's crates; the value does not matter, so it never changes.
const COMPILE_EPOCH: u64 = 1_795_225_136;

/// A host folder that the command inside sees.
pub struct Bind<'a> {
    /// Folder on the host.
    pub host: &'a Path,
    /// Where it appears inside.
    pub inside: &'a str,
    /// Whether the command may write there.
    pub writable: bool,
}

/// The unpacked builder root with everything needed to run in it.
#[derive(Debug, Clone)]
pub struct Builder {
    root: PathBuf,
    checkout: PathBuf,
    target: PathBuf,
    toolchain: PathBuf,
    cargo_home: PathBuf,
    epoch: u64,
}

impl Builder {
    /// Unpacks the builder root if it is not there yet.
    ///
    /// # Errors
    /// When packages cannot be fetched, or the host has no Rust toolchain.
    pub fn prepare(cache: &Cache, checkout: &Path, epoch: u64) -> Result<Builder> {
        let root = packages::unpacked(cache, &checkout.join("image/packages"), "builder")?;
        // Unpacked packages lack what their maintainer scripts link: the names of the compiler.
        for (link, to) in [
            ("usr/bin/cc", "gcc"),
            ("usr/bin/c++", "g++"),
            ("usr/bin/awk", "mawk"),
        ] {
            let link = root.join(link);
            if link.symlink_metadata().is_err() {
                symlink(to, &link).with_context(|| format!("link {}", link.display()))?;
            }
        }
        for mount_point in ["rust", "cargo", "src", "target", "work"] {
            let path = root.join(mount_point);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let mut rustc = cmd::new("rustc");
        rustc.args(["--print", "sysroot"]);
        let sysroot = cmd::output(rustc).context("find the Rust toolchain")?;
        let toolchain = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
        Ok(Builder {
            root,
            checkout: checkout.to_path_buf(),
            target: cache.dir("target")?,
            toolchain,
            cargo_home: cargo_home()?,
            epoch,
        })
    }

    /// Where `/target` is on the host.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A packing tool inside the builder root, in folder `dir`.
    #[must_use]
    pub fn command(&self, dir: &str, binds: &[Bind], program: &str) -> Command {
        self.enter(dir, binds, program, self.epoch)
    }

    /// Cargo inside the builder root, in folder `dir`, writing below `target_dir`.
    #[must_use]
    pub fn cargo(&self, dir: &str, subcommand: &str, target_dir: &str) -> Command {
        let mut cargo = self.enter(dir, &[], "cargo", COMPILE_EPOCH);
        cargo.args([
            subcommand,
            "--release",
            "--locked",
            "--offline",
            "--target-dir",
            target_dir,
        ]);
        cargo
    }

    fn enter(&self, dir: &str, binds: &[Bind], program: &str, epoch: u64) -> Command {
        let mut bwrap = cmd::new("bwrap");
        bwrap.args([
            "--unshare-all",
            "--die-with-parent",
            "--clearenv",
            "--hostname",
            "builder",
        ]);
        bwrap.arg("--ro-bind").arg(&self.root).arg("/");
        bwrap.args(["--proc", "/proc", "--dev", "/dev"]);
        bwrap.args(["--tmpfs", "/tmp"]);
        self.bind_toolchain(&mut bwrap);
        for Bind {
            host,
            inside,
            writable,
        } in binds
        {
            bwrap
                .arg(if *writable { "--bind" } else { "--ro-bind" })
                .arg(host)
                .arg(inside);
        }
        let epoch = epoch.to_string();
        let variables = [
            ("PATH", "/rust/bin:/usr/bin:/usr/sbin"),
            ("CARGO_HOME", "/cargo"),
            ("CARGO_NET_OFFLINE", "true"),
            ("HOME", "/tmp"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("SOURCE_DATE_EPOCH", &epoch),
        ];
        for (name, value) in variables {
            bwrap.args(["--setenv", name, value]);
        }
        bwrap.args(["--chdir", dir, "--", program]);
        bwrap
    }

    fn bind_toolchain(&self, bwrap: &mut Command) {
        bwrap.arg("--ro-bind").arg(&self.toolchain).arg("/rust");
        // Only the registry: the programs in the host's Cargo home are rustup's and do not run here.
        bwrap.args(["--tmpfs", "/cargo", "--bind"]);
        bwrap
            .arg(self.cargo_home.join("registry"))
            .arg("/cargo/registry");
        for config in ["config.toml", "config"] {
            let inside = format!("/cargo/{config}");
            bwrap
                .arg("--ro-bind-try")
                .arg(self.cargo_home.join(config))
                .arg(inside);
        }
        bwrap.arg("--ro-bind").arg(&self.checkout).arg("/src");
        bwrap.arg("--bind").arg(&self.target).arg("/target");
    }
}

/// Cargo's home on the host: `$CARGO_HOME`, else `~/.cargo`.
fn cargo_home() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home =
        home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let registry = home.join("registry");
    fs::create_dir_all(&registry).with_context(|| format!("create {}", registry.display()))?;
    Ok(home)
}
