//! Everything before power-on: host packages, image, medium, disks, ports.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mnemos_image::host::{self, Needed};
use mnemos_image::{Artifacts, Cache};
use mnemos_qemu::machine::{Display, FOR_QEMU, FOR_UEFI, HTTP_PORT, HTTPS_PORT};
use mnemos_qemu::{Accelerator, Boot, Firmware, Forward, Machine, Media};

use crate::options::{Options, all_forwards};

const FOR_DISPLAY: &[Needed] = &[Needed {
    file: "/usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so",
    package: "qemu-system-gui",
}];

/// Ready to be switched on.
pub(crate) struct Prepared {
    pub(crate) machine: Machine,
    pub(crate) accelerator: Accelerator,
}

/// Builds what is missing and describes the machine.
pub(crate) fn prepare(options: &Options) -> Result<Prepared> {
    host_packages(options)?;
    let artifacts = mnemos_image::build()?;
    let cache = Cache::open()?;
    let boot = boot(options.media, &artifacts)?;
    let accelerator = Accelerator::choose(&cache, &artifacts.kernel)?;
    let machine = Machine {
        memory_mib: options.memory_mib,
        cpus: options.cpus,
        firmware: options.firmware,
        network: Some(forwards(&options.forwards)?),
        disks: disks(&cache, &options.disks_bytes)?,
        display: options.display,
        // `reboot` on the node's page boots it again; a check ends with power-off.
        no_reboot: false,
        ..Machine::new(boot)
    };
    Ok(Prepared {
        machine,
        accelerator,
    })
}

/// What QEMU needs for this machine.
pub(crate) fn host_packages(options: &Options) -> Result<()> {
    host::ensure(FOR_QEMU)?;
    if options.firmware == Firmware::Uefi {
        host::ensure(FOR_UEFI)?;
    }
    if options.display == Display::Gtk {
        if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
            bail!(
                "--display: neither DISPLAY nor WAYLAND_DISPLAY is set; start it in a desktop session or use --headless"
            );
        }
        host::ensure(FOR_DISPLAY)?;
    }
    Ok(())
}

/// What QEMU boots for `media`, building the ISO when that is it.
pub(crate) fn boot(media: Media, artifacts: &Artifacts) -> Result<Boot> {
    Ok(match media {
        Media::Kernel => kernel(artifacts),
        Media::Cd => Boot::Cd(mnemos_iso::build(artifacts)?),
        Media::Usb => Boot::Usb(mnemos_iso::build(artifacts)?),
    })
}

/// Direct kernel boot.
pub(crate) fn kernel(artifacts: &Artifacts) -> Boot {
    Boot::Kernel {
        kernel: artifacts.kernel.clone(),
        initramfs: artifacts.initramfs.clone(),
        cmdline: artifacts.cmdline.clone(),
    }
}

/// The forwards asked for, checked, and the usual host ports for page and CA where they are free.
fn forwards(asked: &[Forward]) -> Result<Vec<Forward>> {
    for forward in asked.iter().filter(|forward| forward.host != 0) {
        TcpListener::bind(("127.0.0.1", forward.host)).with_context(|| {
            let Forward { host, guest } = forward;
            format!(
                "--forward {host}:{guest}: port {host} of this host cannot be used; give another"
            )
        })?;
    }
    let mut forwards = all_forwards(asked);
    for (guest, usual) in [(HTTPS_PORT, 8443), (HTTP_PORT, 8080)] {
        let taken = forwards.iter().any(|forward| forward.host == usual);
        let forward = forwards
            .iter_mut()
            .find(|forward| forward.guest == guest && forward.host == 0);
        if let Some(forward) = forward
            && !taken
            && TcpListener::bind(("127.0.0.1", usual)).is_ok()
        {
            forward.host = usual;
        }
    }
    Ok(forwards)
}

/// Empty sparse images.
fn disks(cache: &Cache, sizes_bytes: &[u64]) -> Result<Vec<PathBuf>> {
    let folder = cache.dir("node")?;
    let make = |(index, bytes): (usize, &u64)| {
        empty_disk(&folder.join(format!("disk{index}.raw")), *bytes)
    };
    sizes_bytes.iter().enumerate().map(make).collect()
}

fn empty_disk(path: &Path, bytes: u64) -> Result<PathBuf> {
    let file =
        File::create(path).with_context(|| format!("cannot create the disk {}", path.display()))?;
    file.set_len(bytes).with_context(|| {
        format!(
            "--disk: {} cannot be {} MiB; give less, or set MNEMOS_CACHE to another file system",
            path.display(),
            bytes >> 20
        )
    })?;
    Ok(path.to_owned())
}
