//! What a unit file says, as types: nothing below the parser sees a string that means something else.

use std::path::PathBuf;
use std::time::Duration;

/// One unit: a service with its processes, or a target that only groups other units.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Full name, for example `mnemos-neuron@selftest.service`.
    pub name: String,
    /// The file it was read from (for an instance, the template).
    pub source: PathBuf,
    /// `Description=`, or the name when there is none.
    pub description: String,
    /// Names this unit starts after, from its own `After=`.
    pub after: Vec<String>,
    /// Names that start after this unit, from its own `Before=`.
    pub before: Vec<String>,
    /// Names pulled in, and waited for if also in `after`.
    pub requires: Vec<String>,
    /// Names pulled in; their failure does not hold this unit back.
    pub wants: Vec<String>,
    /// All must hold, otherwise the unit is skipped (which is no failure).
    pub conditions: Vec<Condition>,
    /// `X-MnemosStage=`: the boot stage whose lines this unit's state prints.
    pub stage: Option<String>,
    /// What runs.
    pub kind: Kind,
}

/// Service or target.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A `.target`: reached when everything it is ordered after is settled.
    Target,
    /// A `.service`.
    Service(Box<Service>),
}

/// One `Condition…=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// True when the value began with `!`.
    pub negated: bool,
    /// What is tested.
    pub test: ConditionTest,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionTest {
    /// `ConditionPathExists=`.
    PathExists(PathBuf),
    /// `ConditionCPUFeature=`, a name of systemd's list such as `avx2`.
    CpuFeature(String),
    /// `ConditionKernelCommandLine=`, a word or `key=value` of /proc/cmdline.
    KernelCommandLine(String),
}

/// How a service says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Ready once `execve` succeeded (`simple` and `exec` are the same here).
    Exec,
    /// Ready at `READY=1` on `$NOTIFY_SOCKET`.
    Notify,
    /// Done when its last command exits with 0.
    Oneshot,
}

/// `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never started again.
    No,
    /// Started again after anything but exit status 0.
    OnFailure,
    /// Started again whatever the exit was.
    Always,
}

/// One `ExecStart=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Absolute path and arguments; never empty.
    pub argv: Vec<String>,
    /// True when the line began with `-`: a non-zero exit counts as success.
    pub ignore_failure: bool,
}

/// Where stdout and stderr go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The journal's stream socket; /dev/kmsg while journald is not up.
    Journal,
    /// /dev/kmsg.
    Kmsg,
    /// /dev/null.
    Null,
}

/// A memory limit of the unit's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// No limit.
    Infinity,
    /// A number of bytes.
    Bytes(u64),
    /// Percent of the machine's memory.
    Percent(u8),
}

/// Directories made for a service below /run, /var/lib …, owned by its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Paths relative to the base, for example `mnemos/agent`.
    pub names: Vec<String>,
    /// Permission bits of each.
    pub mode: u32,
}

impl Default for Directories {
    fn default() -> Directories {
        Directories {
            names: Vec::new(),
            mode: 0o755,
        }
    }
}

/// A Unix socket that is there before its service and passed to it (sd_listen_fds(3)), as a `.socket` unit says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Stream or datagram.
    pub kind: ListenKind,
    /// Where it is bound; anybody may connect.
    pub path: PathBuf,
}

/// The type of a [`Listen`] socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    /// `SOCK_STREAM`, listening.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
}

/// Resource limits of `setrlimit(2)`; `None` keeps what PID 1 has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `LimitNOFILE=`.
    pub open_files: Option<u64>,
    /// `LimitCORE=`, bytes.
    pub core_bytes: Option<u64>,
    /// `LimitMEMLOCK=`, bytes; `u64::MAX` is infinity.
    pub memlock_bytes: Option<u64>,
}

/// Limits of the unit's control group; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// `MemoryMax=`: above it the kernel kills inside the group.
    pub memory_max: Option<MemoryLimit>,
    /// `MemoryHigh=`: above it the group is throttled and reclaimed from.
    pub memory_high: Option<MemoryLimit>,
    /// `MemoryMin=`: never reclaimed below it.
    pub memory_min: Option<MemoryLimit>,
    /// `TasksMax=`.
    pub tasks_max: Option<u64>,
    /// `CPUWeight=`, 1..=10000.
    pub cpu_weight: Option<u64>,
}

/// What the processes of a service may do and see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// `User=`; root when absent.
    pub user: Option<String>,
    /// `Group=`; the user's own group when absent.
    pub group: Option<String>,
    /// `SupplementaryGroups=`.
    pub supplementary_groups: Vec<String>,
    /// `CapabilityBoundingSet=` as a bit mask; `None` keeps all.
    pub bounding: Option<u64>,
    /// `AmbientCapabilities=` as a bit mask.
    pub ambient: u64,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: bool,
    /// `PrivateNetwork=`: a network name space with nothing but `lo`.
    pub private_network: bool,
    /// `UMask=`.
    pub umask: u32,
}

/// The `[Service]` section.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// `Type=`.
    pub service_type: ServiceType,
    /// `ExecStart=` lines: one, or for a oneshot one after the other.
    pub commands: Vec<Command>,
    /// `Restart=`.
    pub restart: Restart,
    /// `RestartSec=`: the first delay; it doubles with each failure.
    pub restart_delay: Duration,
    /// `RestartMaxDelaySec=`: the cap of the delay.
    pub restart_max_delay: Duration,
    /// `TimeoutStartSec=`; `None` is infinity.
    pub start_timeout: Option<Duration>,
    /// `TimeoutStopSec=`: from SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
    /// `WatchdogSec=`.
    pub watchdog: Option<Duration>,
    /// `RemainAfterExit=` of a oneshot; only shown.
    pub remain_after_exit: bool,
    /// Users, capabilities, name spaces.
    pub privileges: Privileges,
    /// `Environment=`, in order.
    pub environment: Vec<(String, String)>,
    /// `WorkingDirectory=`.
    pub working_directory: Option<PathBuf>,
    /// `RuntimeDirectory=` below /run.
    pub runtime_directories: Directories,
    /// `StateDirectory=` below /var/lib.
    pub state_directories: Directories,
    /// `X-MnemosListen…=`: sockets PID 1 binds before the first start and keeps over restarts.
    pub listen: Vec<Listen>,
    /// `FileDescriptorStoreMax=`: how many descriptors of the service PID 1 keeps over restarts.
    pub descriptor_store_max: usize,
    /// `StandardOutput=` for stdout and stderr.
    pub output: Output,
    /// `OOMScoreAdjust=`.
    pub oom_score_adjust: Option<i16>,
    /// `Limit…=`.
    pub limits: Limits,
    /// Memory, tasks, CPU.
    pub cgroup: CgroupLimits,
}
