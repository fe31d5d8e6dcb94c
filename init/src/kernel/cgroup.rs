//! Control groups: PID 1 in `/init.scope`, each service in `/system.slice/NAME`, which is also how journald and others
//! tell services apart.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::unit::{CgroupLimits, MemoryLimit};

/// What PID 1 keeps however short memory is: several times its measured 1.3 MiB.
const INIT_MEMORY_MIN_BYTES: u64 = 16 << 20;

/// The part of the cgroup tree PID 1 owns.
pub struct Cgroups {
    slice: PathBuf,
    memory_bytes: u64,
    /// Groups that were killed and not made anew since; see [`Entry::Moved`].
    killed: BTreeSet<String>,
}

/// How a child gets into its group.
pub enum Entry {
    /// `CLONE_INTO_CGROUP` with this directory: it is in from its first instruction.
    Cloned(OwnedFd),
    /// It writes itself into this `cgroup.procs` first of all. Kernels since 6.12.16 kill whatever is cloned into a group
    /// on which `cgroup.kill` was ever used: `cgroup_css_set_fork` notes the kill count of the parent's group, and
    /// `cgroup_post_fork` compares it with that of the new one. (Seen on 6.18.)
    Moved(OwnedFd),
}

impl Cgroups {
    /// Makes the tree below `root`, moves PID 1 into it and hands the controllers down.
    ///
    /// # Errors
    /// When `root` is not a writable cgroup2 file system. Missing controllers are no error: the limits that need them
    /// are reported when a unit asks for one.
    pub fn set_up(root: &Path, memory_bytes: u64) -> io::Result<Cgroups> {
        let (scope, slice) = (root.join("init.scope"), root.join("system.slice"));
        for group in [&scope, &slice] {
            make(group)?;
        }
        fs::write(scope.join("cgroup.procs"), "0")?;
        let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
        for controller in controllers.split_whitespace() {
            // One at a time: a controller that cannot be handed down must not keep back the others.
            for group in [root, slice.as_path()] {
                let _ = fs::write(
                    group.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        let _ = fs::write(scope.join("memory.min"), INIT_MEMORY_MIN_BYTES.to_string());
        Ok(Cgroups {
            slice,
            memory_bytes,
            killed: BTreeSet::new(),
        })
    }

    /// Makes the group of `unit` and sets its limits.
    ///
    /// # Errors
    /// When the group cannot be made or opened. Limits that could not be set come back as sentences: a service without
    /// its limit is better than no service.
    pub fn prepare(
        &mut self,
        unit: &str,
        limits: &CgroupLimits,
    ) -> io::Result<(Entry, Vec<String>)> {
        let group = self.slice.join(unit);
        if self.killed.contains(unit) && fs::remove_dir(&group).is_ok() {
            self.killed.remove(unit);
        }
        make(&group)?;
        let mut unset = Vec::new();
        for (file, value) in files(limits, self.memory_bytes) {
            if let Err(error) = fs::write(group.join(file), &value) {
                unset.push(format!("{unit}: cannot set {file} to {value}: {error}"));
            }
        }
        let open =
            |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        let entry = if self.killed.contains(unit) {
            Entry::Moved(open(&group.join("cgroup.procs"), OFlags::WRONLY)?)
        } else {
            Entry::Cloned(open(&group, OFlags::PATH | OFlags::DIRECTORY)?)
        };
        Ok((entry, unset))
    }

    /// Kills every process in the group of `unit`.
    pub fn kill(&mut self, unit: &str) {
        let group = self.slice.join(unit);
        // Absent when the unit never started; empty is the normal case.
        let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
        if events.lines().any(|line| line == "populated 1") {
            self.killed.insert(unit.to_owned());
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// File names and values for `limits`, percent counted from `memory_bytes`.
fn files(limits: &CgroupLimits, memory_bytes: u64) -> Vec<(&'static str, String)> {
    let memory = |limit: Option<MemoryLimit>| {
        limit.map(|limit| match limit {
            MemoryLimit::Infinity => "max".to_owned(),
            MemoryLimit::Bytes(bytes) => bytes.to_string(),
            MemoryLimit::Percent(percent) => (memory_bytes / 100 * u64::from(percent)).to_string(),
        })
    };
    let wanted = [
        ("memory.max", memory(limits.memory_max)),
        ("memory.high", memory(limits.memory_high)),
        ("memory.min", memory(limits.memory_min)),
        ("pids.max", limits.tasks_max.map(|tasks| tasks.to_string())),
        (
            "cpu.weight",
            limits.cpu_weight.map(|weight| weight.to_string()),
        ),
    ];
    wanted
        .into_iter()
        .filter_map(|(file, value)| value.map(|value| (file, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let limits = CgroupLimits {
            memory_max: Some(MemoryLimit::Percent(50)),
            memory_high: Some(MemoryLimit::Infinity),
            tasks_max: Some(32),
            ..CgroupLimits::default()
        };
        let expected = [
            ("memory.max", "1000".to_owned()),
            ("memory.high", "max".to_owned()),
            ("pids.max", "32".to_owned()),
        ];
        assert_eq!(files(&limits, 2000), expected);
    }
}
