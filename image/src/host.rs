//! What must be installed on the build host, and how it gets there.

use crate::{cmd, progress};
use anyhow::{Result, bail};
use std::path::Path;

/// A program and the Debian package that has it.
pub struct Needed {
    /// A file that exists when the package is installed.
    pub file: &'static str,
    /// Debian's package name.
    pub package: &'static str,
}

/// What building the image takes.
pub const FOR_IMAGE: &[Needed] = &[
    Needed {
        file: "/usr/bin/mmdebstrap",
        package: "mmdebstrap",
    },
    Needed {
        file: "/usr/bin/bwrap",
        package: "bubblewrap",
    },
    Needed {
        file: "/usr/bin/git",
        package: "git",
    },
];

/// Installs what is missing, or says what to type.
///
/// # Errors
/// When something is missing and this process may not install it, or `apt-get` fails.
pub fn ensure(needed: &[Needed]) -> Result<()> {
    let missing: Vec<&str> = needed
        .iter()
        .filter(|n| !Path::new(n.file).exists())
        .map(|n| n.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!(
        "apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    if !is_root() {
        bail!(
            "this host lacks {}; type: sudo apt-get update && sudo {install}",
            missing.join(", ")
        );
    }
    progress::step(&format!("host packages: {}", missing.join(" ")), |step| {
        let mut update = cmd::new("apt-get");
        update.args(["-q", "update"]);
        cmd::run(step, update)?;
        let mut apt = cmd::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["-q", "-y", "install", "--no-install-recommends"])
            .args(&missing);
        cmd::run(step, apt)
    })
}

/// Building needs root: it makes device-free file trees that belong to root, and chroots by bwrap.
///
/// # Errors
/// When this process is not root.
pub fn require_root() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!(
        "building the image needs root, to make files that belong to root: type: sudo -E env \"PATH=$PATH\" cargo node"
    )
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of our own /proc entry is the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
