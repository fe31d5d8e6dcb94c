//! The image to beat: Debian trixie with systemd, networkd, resolved, D-Bus and nginx, whole in RAM.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mnemos_image::host::{self, Needed};
use mnemos_image::{Cache, checkout, cmd, progress, sha256};
use mnemos_qemu::machine::HTTP_PORT;
use mnemos_qemu::{Accelerator, Boot, Vm, client};

use super::boot::{first, machine};
use super::report::Reference;
use crate::options::Options;

/// Boots whose median is compared: one alone varies by some seconds.
const BOOTS: usize = 3;
const HOOK: &str = "qemu/bench/reference.sh";
const PACKAGES: &str =
    "--include=systemd-sysv,udev,dbus,systemd-resolved,nginx-light,linux-image-amd64";
const FOR_REFERENCE: &[Needed] = &[
    Needed {
        file: "/usr/bin/cpio",
        package: "cpio",
    },
    Needed {
        file: "/usr/bin/zstd",
        package: "zstd",
    },
];

struct Image {
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// Builds the image once, boots it and measures until nginx answers.
pub(super) fn measure(
    options: &Options,
    cache: &Cache,
    accelerator: Accelerator,
) -> Result<Reference> {
    let image = build(cache)?;
    let boot = Boot::Kernel {
        kernel: image.kernel,
        initramfs: image.initramfs.clone(),
        cmdline: "console=ttyS0 quiet rdinit=/sbin/init".to_owned(),
    };
    let machine = machine(options, boot);
    let mut first_http_s = Vec::new();
    for number in 1..=BOOTS {
        let elapsed = progress::step(
            &format!("boot the reference image ({number} of {BOOTS})"),
            |_| {
                let vm = Vm::boot(&machine, accelerator)?;
                let port = vm.port(HTTP_PORT)?;
                first(&vm, move || client::answers_plain(port))
            },
        )?;
        first_http_s.push(elapsed.as_secs_f64());
    }
    Ok(Reference {
        initramfs_bytes: image.initramfs.metadata()?.len(),
        first_http_s,
    })
}

fn build(cache: &Cache) -> Result<Image> {
    let hook = checkout()?.join(HOOK);
    let recipe = fs::read(&hook).with_context(|| format!("cannot read {}", hook.display()))?;
    let key = sha256(&[recipe.as_slice(), PACKAGES.as_bytes()].concat());
    let folder = cache.dir("reference")?.join(&key[..16]);
    let image = Image {
        kernel: folder.join("vmlinuz"),
        initramfs: folder.join("initramfs.cpio.zst"),
    };
    if image.initramfs.is_file() {
        return Ok(image);
    }
    host::ensure(FOR_REFERENCE)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    progress::step("build the reference image", |step| {
        cmd::run(step, bootstrap(&hook, &folder, &root))?;
        let mut pack = cmd::new("sh");
        // Written under another name first, so that an interrupted build is not taken for a finished one.
        pack.args(["-c", "set -e; find . | cpio --quiet -o -H newc | zstd -q -T0 -15 -f -o ../part; mv ../part ../initramfs.cpio.zst"]);
        pack.current_dir(&root);
        cmd::run(step, pack)
    })?;
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    Ok(image)
}

fn bootstrap(hook: &Path, folder: &Path, root: &Path) -> std::process::Command {
    let mut bootstrap = cmd::new("mmdebstrap");
    // Debian's kernel makes no initramfs then.
    bootstrap.env("INITRD", "No");
    bootstrap.args([
        "--mode=root",
        "--format=directory",
        "--architectures=amd64",
        "--variant=minbase",
        PACKAGES,
    ]);
    bootstrap.args([
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]);
    bootstrap.arg(format!(
        "--customize-hook='{}' \"$1\" '{}'",
        hook.display(),
        folder.display()
    ));
    bootstrap.arg("trixie").arg(root);
    if let Some(mirror) = std::env::var_os("MNEMOS_MIRROR") {
        bootstrap.arg(mirror);
    }
    bootstrap
}
