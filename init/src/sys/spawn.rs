//! Starting a process: everything is prepared before the fork, since the child may not allocate.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use super::child;

/// Where stdout and stderr of the new process go.
#[derive(Debug, Clone)]
pub enum StdOutput {
    /// journald's stream socket, opened with this header; /dev/kmsg when it cannot be reached.
    Journal {
        /// The lines of the stream protocol: identifier, unit, priority and flags.
        header: Vec<u8>,
    },
    /// /dev/kmsg.
    Kmsg,
    /// /dev/null.
    Null,
}

/// A directory the child makes before it gives up its privileges.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Where; the parent is made by the entry before.
    pub path: CString,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; `None` leaves an existing directory as it is.
    pub owner: Option<(u32, u32)>,
}

/// All a child needs to become the program, in the form the system calls take.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is executed.
    pub program: CString,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<CString>,
    /// `NAME=value`.
    pub environment: Vec<CString>,
    /// stdout and stderr; stdin is /dev/null.
    pub output: StdOutput,
    /// Made in this order.
    pub directories: Vec<Directory>,
    /// `RLIMIT_…` and the value for both soft and hard limit.
    pub limits: Vec<(u32, u64)>,
    /// File mode creation mask.
    pub umask: u32,
    /// For /proc/self/oom_score_adj.
    pub oom_score_adjust: Option<CString>,
    /// A network name space of its own, with `lo` up.
    pub private_network: bool,
    /// User, group, supplementary groups; `None` stays root.
    pub credentials: Option<(u32, u32, Vec<u32>)>,
    /// Capabilities that stay possible.
    pub bounding: Option<u64>,
    /// Capabilities an unprivileged program keeps across `execve`.
    pub ambient: u64,
    /// No setuid program gives more.
    pub no_new_privileges: bool,
    /// Where it starts.
    pub working_directory: CString,
}

/// The control group of the new process.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// That of its parent.
    Here,
    /// Cloned into the group of this directory.
    Clone(BorrowedFd<'a>),
    /// Moves itself there through this `cgroup.procs`.
    Move(BorrowedFd<'a>),
}

/// A process that was just forked.
pub struct Spawned {
    /// Its number, until it is reaped.
    pub pid: i32,
    /// Signals go here: the number may be reused, this never names another process.
    pub pidfd: OwnedFd,
    /// Closed without a byte by a successful `execve`; otherwise what [`ChildError::parse`] takes.
    pub errors: OwnedFd,
}

/// What the child was doing when it failed. The discriminants travel over the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The control group.
    Group = 1,
    /// New session, signal mask.
    Session,
    /// stdin, stdout, stderr.
    Streams,
    /// Descriptors passed on.
    Descriptors,
    /// `setrlimit`.
    Limits,
    /// /proc/self/oom_score_adj.
    OomScore,
    /// A directory; the index says which.
    Directory,
    /// `unshare(CLONE_NEWNET)` and `lo`.
    Network,
    /// Bounding and ambient set.
    Capabilities,
    /// `setgroups`, `setresgid`, `setresuid`.
    Credentials,
    /// `chdir`.
    WorkingDirectory,
    /// `execve`.
    Execute,
}

impl Step {
    const ALL: [Step; 12] = [
        Step::Group,
        Step::Session,
        Step::Streams,
        Step::Descriptors,
        Step::Limits,
        Step::OomScore,
        Step::Directory,
        Step::Network,
        Step::Capabilities,
        Step::Credentials,
        Step::WorkingDirectory,
        Step::Execute,
    ];
}

/// A failure between fork and `execve`.
#[derive(Debug)]
pub struct ChildError {
    /// What was being done.
    pub step: Step,
    /// To which one of several.
    pub index: usize,
    /// What the system said.
    pub source: io::Error,
}

impl ChildError {
    /// Reads the six bytes the child wrote: step, index, errno.
    pub fn parse(bytes: &[u8]) -> Option<ChildError> {
        let [step, index, errno @ ..] = bytes else {
            return None;
        };
        let step = *Step::ALL.iter().find(|known| **known as u8 == *step)?;
        let errno = i32::from_ne_bytes(errno.try_into().ok()?);
        Some(ChildError {
            step,
            index: usize::from(*index),
            source: io::Error::from_raw_os_error(errno),
        })
    }

    /// One sentence that names the thing `plan` was about.
    pub fn sentence(&self, plan: &Plan) -> String {
        let path = |text: &CString| {
            PathBuf::from(text.to_string_lossy().into_owned())
                .display()
                .to_string()
        };
        let what = match self.step {
            Step::Group => "cannot enter its control group".to_owned(),
            Step::Session => "cannot start a session".to_owned(),
            Step::Streams => "cannot connect stdin, stdout and stderr".to_owned(),
            Step::Descriptors => "cannot pass on its sockets".to_owned(),
            Step::Limits => "cannot set resource limits".to_owned(),
            Step::OomScore => "cannot set oom_score_adj".to_owned(),
            Step::Directory => match plan.directories.get(self.index) {
                Some(directory) => format!("cannot make directory {}", path(&directory.path)),
                None => "cannot make a directory".to_owned(),
            },
            Step::Network => "cannot make a private network".to_owned(),
            Step::Capabilities => "cannot set capabilities".to_owned(),
            Step::Credentials => "cannot become the service's user".to_owned(),
            Step::WorkingDirectory => format!("cannot enter {}", path(&plan.working_directory)),
            Step::Execute => format!("cannot execute {}", path(&plan.program)),
        };
        format!("{what}: {}", self.source)
    }
}

/// Forks a child that becomes `plan`'s program, in the group of `place` before it does anything else.
///
/// `passed` become descriptors 3, 4, … of the program, with `$LISTEN_FDS` and `$LISTEN_PID` added to its environment.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` from `clone3`, `EMFILE` from the pipe. What fails later comes through [`Spawned::errors`].
pub fn spawn(plan: &Plan, place: Place<'_>, passed: &[BorrowedFd<'_>]) -> io::Result<Spawned> {
    let (errors, child_errors) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&errors, true)?;
    let mut prepared = child::Prepared::new(plan, passed);
    let mut pidfd: libc::c_int = -1;
    let (into, procs) = match place {
        Place::Here => (None, None),
        Place::Clone(directory) => (Some(directory), None),
        Place::Move(procs) => (None, Some(procs.as_raw_fd())),
    };
    let pid = clone3(&mut pidfd, into)?;
    if pid == 0 {
        child::run(plan, &mut prepared, child_errors.as_raw_fd(), procs);
    }
    // SAFETY: CLONE_PIDFD made the kernel store a new descriptor, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned { pid, pidfd, errors })
}

/// Forks a plain child that runs `work` and exits with what it returns. For calls that may block for ever, such as
/// umount(2) and sync(2): PID 1 watches the pidfd with a deadline instead of making them itself.
///
/// `work` may allocate: PID 1 has one thread, so no lock can be held by another at the fork.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` from `clone3`.
pub fn fork_with_deadline(work: impl FnOnce() -> i32) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::c_int = -1;
    let pid = clone3(&mut pidfd, None)?;
    if pid == 0 {
        let status = work();
        // SAFETY: ends the child at once; it shares no memory with the parent.
        unsafe { libc::_exit(status) };
    }
    // SAFETY: CLONE_PIDFD made the kernel store a new descriptor, which nothing else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// linux/sched.h; libc's constant has the wrong type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `clone3(2)` as a fork with a pidfd, into `cgroup` if given (Linux 5.7).
fn clone3(pidfd: &mut libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    let into = if cgroup.is_some() {
        CLONE_INTO_CGROUP
    } else {
        0
    };
    let pidfd_at = std::ptr::from_mut(pidfd) as u64;
    let arguments = libc::clone_args {
        flags: u64::from(libc::CLONE_PIDFD.unsigned_abs()) | into,
        pidfd: pidfd_at,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    // SAFETY: `arguments` is a full clone_args whose size is passed; without CLONE_VM the child gets a copy of
    // this memory and returns here on a copy of this stack, like fork(2). This process has one thread, so the
    // copy holds no lock of another. `pidfd` outlives the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(pid).map_err(io::Error::other)
}
