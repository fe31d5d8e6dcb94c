//! PID 1's first steps on the real root: mounts, identity, clock, consoles.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use super::memory;
use super::mounts::{self, MountError};
use crate::console::{Console, serial_consoles};
use crate::identity;
use crate::kernel::Cgroups;
use crate::supervisor::Severity;

const BUILD_EPOCH: &str = "/usr/lib/mnemos/build-epoch";
const MACHINE_ID: &str = "/run/machine-id";
/// Every service may hold this many files; talos and containerd use the same figure.
const OPEN_FILES: u64 = 1_048_576;

/// What the start found out.
pub struct System {
    /// The cgroup tree, unless the kernel has none.
    pub cgroups: Option<Cgroups>,
    /// Sentences for the operator, with the remedy.
    pub problems: Vec<String>,
}

/// Something a node can start without, if it must.
type Step = fn() -> io::Result<()>;

/// Does it all. Only a missing mount is fatal.
///
/// # Errors
/// [`MountError`] for a file system no node can do without.
pub fn set_up(console: &mut Console) -> Result<System, MountError> {
    // Ctrl-Alt-Del becomes SIGINT to PID 1 instead of an immediate reset.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    for sentence in mounts::mount_all(&mounts::LATE)? {
        console.log(Severity::Info, &sentence);
    }
    let mut problems = Vec::new();
    let steps: [(&str, Step); 6] = [
        ("make the directories of /run and /var", make_directories),
        ("link /dev/fd", link_devices),
        ("hand the consoles to their groups", hand_over_consoles),
        ("set the machine-id", set_identity),
        ("raise the limit of open files", raise_limits),
        ("set kernel parameters", set_kernel_parameters),
    ];
    for (what, step) in steps {
        if let Err(error) = step() {
            console.log(Severity::Error, &format!("cannot {what}: {error}"));
            problems.push(format!(
                "The node could not {what} ({error}); restart it, and report this if it stays."
            ));
        }
    }
    if let Err(error) = correct_clock(console) {
        console.log(
            Severity::Warning,
            &format!("the clock was not checked against the build's date: {error}"),
        );
    }
    let memory =
        memory::total_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()).unwrap_or(0);
    let cgroups = Cgroups::set_up(Path::new("/sys/fs/cgroup"), memory);
    if let Err(error) = &cgroups {
        console.log(
            Severity::Error,
            &format!("no control groups, services run without limits: {error}"),
        );
        problems.push(
            "Services run without memory limits, since the kernel offers no control groups."
                .to_owned(),
        );
    }
    Ok(System {
        cgroups: cgroups.ok(),
        problems,
    })
}

fn make_directories() -> io::Result<()> {
    let directories = [
        ("/run/lock", 0o755),
        ("/run/log", 0o755),
        ("/run/systemd", 0o755),
        // The daemons of systemd's suite ask by this directory whether PID 1 speaks sd_notify and cgroup2 (sd_booted).
        ("/run/systemd/system", 0o755),
        ("/run/mnemos", 0o755),
        ("/var/lib", 0o755),
        ("/var/log", 0o755),
        ("/var/cache", 0o755),
        ("/var/tmp", 0o755),
        ("/var/lib/mnemos", 0o755),
    ];
    for (path, mode) in directories {
        if let Err(error) = fs::create_dir(path)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    link("/run", "/var/run")
}

fn link_devices() -> io::Result<()> {
    link("/proc/self/fd", "/dev/fd")?;
    link("/proc/self/fd/0", "/dev/stdin")?;
    link("/proc/self/fd/1", "/dev/stdout")?;
    link("/proc/self/fd/2", "/dev/stderr")?;
    link("/proc/kcore", "/dev/core")
}

fn link(target: &str, path: &str) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The console's user may write to the screen and serial consoles before udev's rules say the same: tty is 5,
/// dialout 20 in every Debian.
fn hand_over_consoles() -> io::Result<()> {
    let serial = serial_consoles(&fs::read_to_string("/proc/consoles")?);
    let screen = ("/dev/tty1".to_owned(), 5, 0o620);
    let consoles = serial
        .into_iter()
        .map(|name| (format!("/dev/{name}"), 20, 0o660))
        .chain([screen]);
    for (path, group, mode) in consoles.filter(|(path, ..)| Path::new(path).exists()) {
        chown(&path, None, Some(group))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// machine-id and host name from the SMBIOS UUID, else the first MAC address, else at random.
fn set_identity() -> io::Result<()> {
    let id = identity::machine_id(&hardware_identity());
    rustix::system::sethostname(identity::host_name(&id).as_bytes())?;
    fs::write(MACHINE_ID, format!("{id}\n"))?;
    fs::set_permissions(MACHINE_ID, fs::Permissions::from_mode(0o444))?;
    rustix::mount::mount_bind(MACHINE_ID, "/etc/machine-id").map_err(Into::into)
}

fn hardware_identity() -> Vec<u8> {
    let uuid = fs::read_to_string("/sys/class/dmi/id/product_uuid").unwrap_or_default();
    if let Some(uuid) = identity::usable_smbios_uuid(&uuid) {
        return uuid.into_bytes();
    }
    if let Some(mac) = first_mac() {
        return mac.to_vec();
    }
    let mut random = vec![0; 16];
    // Without entropy this early the id is weak but still one: nothing secret is made from it.
    let _ = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::NONBLOCK);
    random
}

fn first_mac() -> Option<[u8; 6]> {
    let mut names: Vec<_> = fs::read_dir("/sys/class/net")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort();
    names
        .iter()
        .find_map(|path| identity::usable_mac(&fs::read_to_string(path.join("address")).ok()?))
}

fn raise_limits() -> io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(OPEN_FILES),
        maximum: Some(OPEN_FILES),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).map_err(Into::into)
}

/// What sysctl.d would say. A panic stays on the screen for longer than a person needs to read it.
fn set_kernel_parameters() -> io::Result<()> {
    let parameters = [
        ("fs/protected_symlinks", "1"),
        ("fs/protected_hardlinks", "1"),
        ("kernel/kptr_restrict", "1"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/panic", "30"),
        // No program of the node makes a user name space; to others it offers kernel code they need not reach.
        ("user/max_user_namespaces", "0"),
    ];
    let write = |(name, value)| fs::write(format!("/proc/sys/{name}"), value);
    // Each is written whatever became of those before it.
    let outcomes = parameters.map(write);
    outcomes.into_iter().collect()
}

/// Sets the clock to the build's date when it cannot be right.
fn correct_clock(console: &mut Console) -> io::Result<()> {
    let text = fs::read_to_string(BUILD_EPOCH)?;
    let build_s: i64 = text.trim().parse().map_err(io::Error::other)?;
    let now_s = rustix::time::clock_gettime(ClockId::Realtime).tv_sec;
    if let Some(right_s) = identity::corrected_time(now_s, build_s) {
        rustix::time::clock_settime(
            ClockId::Realtime,
            Timespec {
                tv_sec: right_s,
                tv_nsec: 0,
            },
        )?;
        console.log(
            Severity::Warning,
            &format!("the clock said {now_s} s, set to the build's date, {right_s} s"),
        );
    }
    Ok(())
}
