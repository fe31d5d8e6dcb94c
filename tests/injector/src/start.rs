//! From PID 1 to a bystander: the child, its mount namespace and its serial port.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// First argument of the child.
pub(crate) const SERVE: &str = "serve";
/// Where the child sees processes: its working directory. PID 1 empties the initramfs, which also detaches
/// what is mounted there, but a detached mount lives as long as somebody is in it.
pub(crate) const PROC: &str = ".";
const PROC_AT_START: &str = "/injector/proc";
const DEV_AT_START: &str = "/injector/dev";
/// Where the cpio puts this program.
const SELF: &str = "/mnemos-injector";

/// Starts the child, then executes `/init` as the same process, PID 1. Returns only on failure.
#[expect(
    clippy::disallowed_methods,
    reason = "the one module that starts processes"
)]
pub(crate) fn leave_child_and_become_init() -> io::Result<()> {
    // PID 1 reaps the child; this program is about to be replaced. It inherits the console: there is no /dev/null yet.
    drop(Command::new(SELF).arg(SERVE).spawn()?);
    Err(Command::new("/init")
        .args(std::env::args_os().skip(1))
        .exec())
}

/// Mounts what the child needs where only it sees it, and opens the second serial port.
#[expect(
    unsafe_code,
    reason = "unshare(2) is unsafe in rustix for flags that this call does not use"
)]
pub(crate) fn own_view_and_serial_port() -> io::Result<File> {
    // SAFETY: NEWNS changes no file descriptors or credentials, and this process has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    fs::create_dir_all(PROC_AT_START)?;
    fs::create_dir_all(DEV_AT_START)?;
    mount("proc", PROC_AT_START, "proc", MountFlags::empty(), None)?;
    mount(
        "devtmpfs",
        DEV_AT_START,
        "devtmpfs",
        MountFlags::empty(),
        None,
    )?;
    let port = File::options()
        .read(true)
        .write(true)
        .open(format!("{DEV_AT_START}/ttyS1"))?;
    std::env::set_current_dir(PROC_AT_START)?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    Ok(port)
}
