//! Unit files: systemd's syntax, in a subset where everything unknown is an error.
//!
//! Sections and directives (meaning as in systemd.unit(5), systemd.service(5), systemd.exec(5) unless noted):
//!
//! - `[Unit]` Description Documentation After Before Requires Wants ConditionPathExists ConditionCPUFeature
//!   ConditionKernelCommandLine (each may be negated by `!`), and our X-MnemosStage: the boot stage whose
//!   lines the unit's state prints.
//! - `[Service]` Type (simple, exec, notify, oneshot; `simple` waits for `execve` like `exec`), ExecStart (several
//!   in a oneshot, prefix `-`), Restart (no, on-failure, always), RestartSec and RestartMaxDelaySec (the delay
//!   doubles up to the cap, and there is no limit after which restarting ends), TimeoutStartSec, TimeoutStopSec,
//!   WatchdogSec, RemainAfterExit, User, Group, SupplementaryGroups, CapabilityBoundingSet, AmbientCapabilities,
//!   NoNewPrivileges, PrivateNetwork, UMask, Environment, WorkingDirectory, RuntimeDirectory and StateDirectory
//!   (with …Mode), StandardOutput (journal, kmsg, null; stderr goes with it), OOMScoreAdjust, LimitNOFILE,
//!   LimitCORE, LimitMEMLOCK, MemoryMax, MemoryHigh, MemoryMin, TasksMax, CPUWeight, FileDescriptorStoreMax, and our
//!   X-MnemosListenStream and X-MnemosListenDatagram: what a `.socket` unit would say, a path anybody may connect to;
//!   units ordered after such a service wait for its start only, as their messages queue.
//!
//! What differs: a list is not reset by an empty value; a directive that is no list may be given once; `After=`
//! and `Wants=` of a unit that does not exist are errors; stopping is always `KillMode=mixed`; a unit is never
//! stopped because one it requires failed. Names `a@.service` are templates, made into units by being named.

mod directive;
mod error;
mod graph;
mod ini;
mod model;
mod name;
mod value;

pub use directive::parse_unit;
pub use error::{LoadUnitError, Refusal};
pub use graph::{UnitId, UnitSet, load_dir};
pub use model::{
    CgroupLimits, Command, Condition, ConditionTest, Directories, Kind, Limits, Listen, ListenKind,
    MemoryLimit, Output, Privileges, Restart, Service, ServiceType, Unit,
};
pub use name::{NotAUnitName, UnitName};
