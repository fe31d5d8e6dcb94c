//! `/init` of the initramfs: checks and mounts the root image, frees the initramfs, and becomes PID 1 of the real root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::mount::mount_move;

use super::memory;
use super::modules::{self, ModuleError};
use super::mounts::{self, MountError};
use super::root_image::{self, ImageError};
use crate::console::Console;
use crate::kernel::now;
use crate::supervisor::StageState;
use crate::sys::LoopDevice;

const NEW_ROOT: &str = "/newroot";
const INIT: &str = "/usr/lib/mnemos/mnemos-init";

/// Why the real root could not be reached. Each goes to the operator, so each says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The machine is too small.
    #[error("{0}")]
    Memory(String),
    /// An API file system is missing.
    #[error("the kernel lacks a file system")]
    Mount(#[from] MountError),
    /// A module is missing.
    #[error(
        "a kernel module for the root image is missing; the boot medium is incomplete, write it again"
    )]
    Module(#[from] ModuleError),
    /// The image is bad.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image could not become a block device.
    #[error("cannot attach the root image to a loop device")]
    Loop(#[source] io::Error),
    /// The image could not be mounted.
    #[error("cannot mount the root image")]
    Root(#[source] io::Error),
    /// The root could not be changed.
    #[error("cannot {step}")]
    Switch {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Goes from the initramfs to the real root and executes PID 1 there. Returns only on failure, with a console to say so.
pub fn switch_to_root() -> (BootError, Console) {
    // Before /dev and /proc there is no way to say anything.
    let mounted = mounts::mount_all(&mounts::EARLY);
    let mut console = Console::open();
    let error = match mounted {
        Ok(_) => reach_root(&mut console),
        Err(error) => error.into(),
    };
    (error, console)
}

fn reach_root(console: &mut Console) -> BootError {
    match prepare(console) {
        Ok(()) => BootError::Switch {
            step: "execute PID 1 of the root image",
            source: execute(),
        },
        Err(error) => error,
    }
}

fn prepare(console: &mut Console) -> Result<(), BootError> {
    // Level 4: errors and worse stay on the console, chatter goes to the journal only, unless the kernel was asked for it.
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if !command_line.split_whitespace().any(|word| word == "debug") {
        let _ = fs::write("/proc/sys/kernel/printk", "4 4 1 7");
    }
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on");
    console.stage(now(), "kernel", StageState::Ok, &kernel_release());
    let total = memory::total_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    if let Some(reason) = total.and_then(memory::shortage) {
        return Err(BootError::Memory(reason));
    }
    console.stage(now(), "root", StageState::Start, "");
    modules::load_listed()?;
    let begun = now();
    let image = root_image::open_checked()?;
    let checked = now() - begun;
    let device = LoopDevice::attach(&image).map_err(BootError::Loop)?;
    let _ = fs::create_dir(NEW_ROOT);
    mounts::mount_read_only(&device.path, NEW_ROOT, "erofs").map_err(BootError::Root)?;
    switch_root()?;
    let detail = format!("checked in {} ms, mounted read-only", checked.as_millis());
    console.stage(now(), "root", StageState::Ok, &detail);
    Ok(())
}

fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Moves the mounts over, frees the initramfs, and makes the image the root.
fn switch_root() -> Result<(), BootError> {
    let failed = |step| move |source| BootError::Switch { step, source };
    for entry in ["/dev", "/proc", "/sys", "/run"] {
        let to = format!("{NEW_ROOT}{entry}");
        mount_move(entry, to.as_str()).map_err(|error| failed("move the mounts")(error.into()))?;
    }
    free_initramfs();
    let enter = || -> rustix::io::Result<()> {
        rustix::process::chdir(NEW_ROOT)?;
        // The initial root cannot be unmounted, only covered.
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    enter().map_err(|error| failed("make the root image the root")(error.into()))
}

/// Deletes the initramfs's files, whose memory is the machine's. The image stays in memory as long as the loop device
/// holds it open. Only on the initramfs's own device: never into a mount.
fn free_initramfs() {
    if let Ok(root) = fs::symlink_metadata("/") {
        delete_below(Path::new("/"), root.dev());
    }
}

fn delete_below(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            delete_below(&path, device);
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "replaces this process; PID 1 starts no other process this way"
)]
fn execute() -> io::Error {
    std::process::Command::new(INIT).arg0("mnemos-init").exec()
}
