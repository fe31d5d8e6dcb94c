//! The API file systems and the writable parts of the root.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

/// One mount, and whether a node can do without.
pub(super) struct Mount {
    source: &'static str,
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static CStr,
    needed: bool,
}

const NO_DEV_SUID: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);
const NO_DEV_SUID_EXEC: MountFlags = NO_DEV_SUID.union(MountFlags::NOEXEC);

const fn needed(
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static CStr,
) -> Mount {
    Mount {
        source: kind,
        target,
        kind,
        flags,
        data,
        needed: true,
    }
}

const fn wanted(
    target: &'static str,
    kind: &'static str,
    flags: MountFlags,
    data: &'static CStr,
) -> Mount {
    Mount {
        source: kind,
        target,
        kind,
        flags,
        data,
        needed: false,
    }
}

/// Mounted by `/init`, moved to the new root.
pub(super) const EARLY: [Mount; 4] = [
    needed("/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755"),
    needed("/proc", "proc", NO_DEV_SUID_EXEC, c""),
    needed("/sys", "sysfs", NO_DEV_SUID_EXEC, c""),
    needed("/run", "tmpfs", NO_DEV_SUID, c"mode=0755,size=20%"),
];

/// Mounted by PID 1 on the new root. Sizes are limits, not reservations.
pub(super) const LATE: [Mount; 12] = [
    needed(
        "/sys/fs/cgroup",
        "cgroup2",
        NO_DEV_SUID_EXEC,
        c"nsdelegate,memory_recursiveprot",
    ),
    needed(
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        c"gid=5,mode=620,ptmxmode=000",
    ),
    needed("/dev/shm", "tmpfs", NO_DEV_SUID, c"mode=1777,size=64M"),
    needed("/tmp", "tmpfs", NO_DEV_SUID_EXEC, c"mode=1777,size=64M"),
    needed("/var", "tmpfs", NO_DEV_SUID_EXEC, c"mode=0755,size=30%"),
    wanted("/sys/kernel/security", "securityfs", NO_DEV_SUID_EXEC, c""),
    wanted("/sys/fs/bpf", "bpf", NO_DEV_SUID_EXEC, c"mode=700"),
    wanted("/sys/fs/pstore", "pstore", NO_DEV_SUID_EXEC, c""),
    wanted("/sys/kernel/tracing", "tracefs", NO_DEV_SUID_EXEC, c""),
    wanted("/sys/kernel/config", "configfs", NO_DEV_SUID_EXEC, c""),
    wanted(
        "/sys/firmware/efi/efivars",
        "efivarfs",
        NO_DEV_SUID_EXEC,
        c"",
    ),
    wanted("/dev/hugepages", "hugetlbfs", NO_DEV_SUID, c"mode=0755"),
];

/// A file system every node needs could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {kind} on {target}")]
pub struct MountError {
    target: &'static str,
    kind: &'static str,
    #[source]
    source: io::Error,
}

/// Mounts all of `mounts`, making mount points where the parent is writable; one that is mounted already stays. Returns
/// what a node can do without and did not get, as sentences.
///
/// # Errors
/// The first needed mount that fails.
pub(super) fn mount_all(mounts: &[Mount]) -> Result<Vec<String>, MountError> {
    let mut missing = Vec::new();
    for entry in mounts {
        match mount_one(entry) {
            Ok(()) => {}
            Err(source) if entry.needed => {
                return Err(MountError {
                    target: entry.target,
                    kind: entry.kind,
                    source,
                });
            }
            Err(error) => missing.push(format!("no {} on {}: {error}", entry.kind, entry.target)),
        }
    }
    Ok(missing)
}

fn mount_one(entry: &Mount) -> io::Result<()> {
    let _ = fs::create_dir(entry.target);
    let data = (!entry.data.is_empty()).then_some(entry.data);
    match mount(entry.source, entry.target, entry.kind, entry.flags, data) {
        // EBUSY: the kernel or the initramfs mounted it already.
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Mounts `source`, read-only, of type `kind` on `target`.
pub(super) fn mount_read_only(source: &Path, target: &str, kind: &str) -> io::Result<()> {
    mount(
        source,
        target,
        kind,
        MountFlags::RDONLY | MountFlags::NODEV,
        None::<&CStr>,
    )
    .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_mounted_before_children() {
        let order: Vec<&str> = EARLY
            .iter()
            .chain(&LATE)
            .map(|entry| entry.target)
            .collect();
        for (at, target) in order.iter().enumerate() {
            let later = order[at + 1..]
                .iter()
                .any(|other| target.starts_with(&format!("{other}/")));
            assert!(!later, "{target}");
        }
    }
}
