//! Between fork and `execve`: only system calls on memory that the parent prepared, nothing that allocates.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::spawn::{Plan, StdOutput, Step};

/// What the child needs beside the plan, in memory it may write to: it has a copy of the parent's.
pub(super) struct Prepared {
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// To be passed on as 3, 4, …
    passed: Vec<c_int>,
    /// `LISTEN_PID=` with room for a number, which only the child knows. Only pointed to.
    listen_pid: Vec<u8>,
    listen_fds: Vec<u8>,
}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// The digits of an i32 and the NUL.
const PID_BYTES: usize = 11;

impl Prepared {
    pub(super) fn new(plan: &Plan, passed: &[BorrowedFd<'_>]) -> Prepared {
        let list = |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let mut prepared = Prepared {
            argv: list(&plan.argv),
            environment: list(&plan.environment),
            passed: passed.iter().map(AsRawFd::as_raw_fd).collect(),
            listen_pid: [LISTEN_PID, &[0; PID_BYTES]].concat(),
            listen_fds: format!("LISTEN_FDS={}\0", passed.len()).into_bytes(),
        };
        if !passed.is_empty() {
            prepared
                .environment
                .push(prepared.listen_pid.as_ptr().cast());
            prepared
                .environment
                .push(prepared.listen_fds.as_ptr().cast());
        }
        prepared.argv.push(std::ptr::null());
        prepared.environment.push(std::ptr::null());
        prepared
    }
}

/// Where a step failed: index of the thing, errno.
type Failure = (u8, c_int);
type Outcome = Result<(), Failure>;
type Act = fn(&Plan) -> Outcome;

/// Becomes the program, or reports the step that failed over `errors` and exits.
pub(super) fn run(plan: &Plan, prepared: &mut Prepared, errors: c_int, procs: Option<c_int>) -> ! {
    if let Some(procs) = procs {
        // SAFETY: writes one initialised byte; "0" means the writer itself.
        let written = unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) };
        if written < 0 {
            fail(errors, Step::Group, (0, errno()));
        }
    }
    let errors = match pass_on(prepared, errors) {
        Ok(errors) => errors,
        Err(failure) => fail(errors, Step::Descriptors, failure),
    };
    let steps: [(Step, Act); 9] = [
        (Step::Session, session),
        (Step::Streams, streams),
        (Step::Limits, limits),
        (Step::OomScore, oom_score),
        (Step::Directory, directories),
        (Step::Network, network),
        (Step::Capabilities, bounding),
        (Step::Credentials, credentials),
        (Step::WorkingDirectory, working_directory),
    ];
    for (step, act) in steps {
        if let Err(failure) = act(plan) {
            fail(errors, step, failure);
        }
    }
    // SAFETY: program, argv and envp are NUL-terminated and live in `plan`, which the copied stack still holds.
    unsafe {
        libc::execve(
            plan.program.as_ptr(),
            prepared.argv.as_ptr(),
            prepared.environment.as_ptr(),
        )
    };
    fail(errors, Step::Execute, (0, errno()));
}

fn errno() -> c_int {
    // SAFETY: always points to this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Turns -1 into the error, for the call with this index.
fn checked(index: u8, result: c_int) -> Outcome {
    if result < 0 {
        Err((index, errno()))
    } else {
        Ok(())
    }
}

fn fail(errors: c_int, step: Step, (index, errno): Failure) -> ! {
    let [a, b, c, d] = errno.to_ne_bytes();
    let report = [step as u8, index, a, b, c, d];
    // SAFETY: writes six initialised bytes to a pipe and ends the child; a failed write cannot be told to anybody.
    unsafe {
        libc::write(errors, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

/// Puts the passed descriptors at 3 and up and writes the number of this process into `$LISTEN_PID`. Returns where the
/// error pipe went, since it may have been in the way.
fn pass_on(prepared: &mut Prepared, errors: c_int) -> Result<c_int, Failure> {
    if prepared.passed.is_empty() {
        return Ok(errors);
    }
    let above = 3 + c_int::try_from(prepared.passed.len()).map_err(|_| (0, libc::EMFILE))?;
    // SAFETY: plain descriptors and numbers.
    let errors = unsafe { libc::fcntl(errors, libc::F_DUPFD_CLOEXEC, above) };
    checked(1, errors)?;
    for fd in &mut prepared.passed {
        // SAFETY: as above. First all out of the way, then each to its place.
        *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, above) };
        checked(2, *fd)?;
    }
    for (to, fd) in (3..).zip(&prepared.passed) {
        // SAFETY: as above; dup2 clears close-on-exec.
        checked(3, unsafe { libc::dup2(*fd, to) })?;
    }
    // SAFETY: getpid cannot fail.
    let mut pid = unsafe { libc::getpid() }.unsigned_abs();
    let mut digits = [0_u8; PID_BYTES];
    let mut first = PID_BYTES;
    while pid > 0 && first > 0 {
        first -= 1;
        digits[first] = b'0' + (pid % 10).to_le_bytes()[0];
        pid /= 10;
    }
    for (to, digit) in prepared
        .listen_pid
        .iter_mut()
        .skip(LISTEN_PID.len())
        .zip(&digits[first..])
    {
        *to = *digit;
    }
    Ok(errors)
}

fn session(_: &Plan) -> Outcome {
    // SAFETY: the set is initialised by sigemptyset before it is read; SIGPIPE, which Rust's runtime ignores, is
    // the only disposition PID 1 has changed.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        checked(
            0,
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()),
        )?;
        checked(1, libc::setsid())
    }
}

fn open(path: &CStr, flags: c_int) -> Result<c_int, Failure> {
    // SAFETY: `path` is NUL-terminated; no mode is needed without O_CREAT.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_NOCTTY | libc::O_CLOEXEC) };
    if fd < 0 { Err((0, errno())) } else { Ok(fd) }
}

fn streams(plan: &Plan) -> Outcome {
    let null = open(c"/dev/null", libc::O_RDWR)?;
    let out = match &plan.output {
        StdOutput::Journal { header } => match journal_stream(header) {
            Some(fd) => fd,
            None => open(c"/dev/kmsg", libc::O_WRONLY).unwrap_or(null),
        },
        StdOutput::Kmsg => open(c"/dev/kmsg", libc::O_WRONLY).unwrap_or(null),
        StdOutput::Null => null,
    };
    for (from, to) in [(null, 0), (out, 1), (out, 2)] {
        // SAFETY: plain descriptors; dup2 clears close-on-exec unless both are equal.
        unsafe {
            if from == to {
                checked(0, libc::fcntl(from, libc::F_SETFD, 0))?;
            } else {
                checked(0, libc::dup2(from, to))?;
            }
        }
    }
    Ok(())
}

/// Connects to journald. Done here and not in PID 1: journald attributes the stream to the cgroup of the process that
/// connected, and a full backlog then blocks only this child.
fn journal_stream(header: &[u8]) -> Option<c_int> {
    const PATH: &[u8] = b"/run/systemd/journal/stdout";
    // sys/socket.h gives it as an int, struct sockaddr_un wants 16 bits.
    const AF_UNIX: libc::sa_family_t = 1;
    // struct sockaddr_un: 16 bits of family, 108 bytes of path.
    const ADDRESS_BYTES: libc::socklen_t = 110;
    // SAFETY: the address is zeroed, so NUL-terminated, and longer than PATH; `header` is initialised memory.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = AF_UNIX;
        for (to, from) in address.sun_path.iter_mut().zip(PATH) {
            *to = from.cast_signed();
        }
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return None;
        }
        let length = ADDRESS_BYTES;
        let connected = libc::connect(fd, (&raw const address).cast(), length) == 0
            && libc::shutdown(fd, libc::SHUT_RD) == 0
            && libc::write(fd, header.as_ptr().cast(), header.len()) == header.len().cast_signed();
        if !connected {
            libc::close(fd);
            return None;
        }
        Some(fd)
    }
}

fn limits(plan: &Plan) -> Outcome {
    for (resource, value) in &plan.limits {
        let limit = libc::rlimit {
            rlim_cur: *value,
            rlim_max: *value,
        };
        // SAFETY: `limit` is initialised and outlives the call.
        checked(0, unsafe { libc::setrlimit(*resource, &raw const limit) })?;
    }
    // SAFETY: umask cannot fail and touches no memory.
    unsafe { libc::umask(plan.umask) };
    Ok(())
}

fn oom_score(plan: &Plan) -> Outcome {
    let Some(score) = &plan.oom_score_adjust else {
        return Ok(());
    };
    let fd = open(c"/proc/self/oom_score_adj", libc::O_WRONLY)?;
    let bytes = score.as_bytes();
    // SAFETY: writes initialised bytes, closes our own descriptor.
    unsafe {
        let written = libc::write(fd, bytes.as_ptr().cast(), bytes.len());
        let outcome = if written < 0 {
            Err((0, errno()))
        } else {
            Ok(())
        };
        libc::close(fd);
        outcome
    }
}

fn directories(plan: &Plan) -> Outcome {
    for (index, directory) in (0_u8..).zip(&plan.directories) {
        let path = directory.path.as_ptr();
        // SAFETY: `path` is NUL-terminated and lives in `plan`.
        let made = unsafe { libc::mkdir(path, directory.mode) };
        if made < 0 && errno() != libc::EEXIST {
            return Err((index, errno()));
        }
        if let Some((uid, gid)) = directory.owner {
            const FLAGS: libc::c_int =
                libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            // SAFETY: as above. A link that a service put there is refused: its target is not ours to give away.
            let fd = unsafe { libc::open(path, FLAGS) };
            checked(index, fd)?;
            // SAFETY: `fd` was just opened, is used by nobody else, and is closed once.
            let outcome = unsafe {
                let owned = checked(index, libc::fchown(fd, uid, gid));
                let outcome = owned.and_then(|()| checked(index, libc::fchmod(fd, directory.mode)));
                libc::close(fd);
                outcome
            };
            outcome?;
        }
    }
    Ok(())
}

fn network(plan: &Plan) -> Outcome {
    // net/if.h gives it as an int, struct ifreq wants 16 bits.
    const IFF_UP: libc::c_short = 1;
    if !plan.private_network {
        return Ok(());
    }
    // SAFETY: the request is zeroed plain data with the name NUL-terminated; the descriptor is ours.
    unsafe {
        checked(0, libc::unshare(libc::CLONE_NEWNET))?;
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        checked(1, fd)?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = IFF_UP;
        let outcome = checked(2, libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request));
        libc::close(fd);
        outcome
    }
}

fn bounding(plan: &Plan) -> Outcome {
    let Some(keep) = plan.bounding else {
        return Ok(());
    };
    for capability in 0..64_u64 {
        // SAFETY: prctl with plain numbers.
        let dropped = unsafe {
            if keep & 1 << capability != 0
                || libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) != 1
            {
                0
            } else {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0)
            }
        };
        checked(0, dropped)?;
    }
    Ok(())
}

fn credentials(plan: &Plan) -> Outcome {
    if let Some((uid, gid, groups)) = &plan.credentials {
        // SAFETY: `groups` is initialised memory of that length; the rest are plain numbers.
        unsafe {
            checked(0, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
            checked(1, libc::setgroups(groups.len(), groups.as_ptr()))?;
            checked(2, libc::setresgid(*gid, *gid, *gid))?;
            checked(3, libc::setresuid(*uid, *uid, *uid))?;
        }
        set_capabilities(plan.ambient)?;
    }
    if plan.no_new_privileges {
        // SAFETY: prctl with plain numbers.
        checked(6, unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        })?;
    }
    Ok(())
}

/// `capset(2)` header and data, version 3 of linux/capability.h.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Keeps exactly `mask`, also across the coming `execve`.
fn set_capabilities(mask: u64) -> Outcome {
    let half = |bits: u64| {
        let bits = (bits & 0xffff_ffff) as u32;
        CapData {
            effective: bits,
            permitted: bits,
            inheritable: bits,
        }
    };
    let header = CapHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let data = [half(mask), half(mask >> 32)];
    // SAFETY: version 3 takes a header and two data records, both initialised and alive during the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if set < 0 {
        return Err((4, errno()));
    }
    for capability in (0..64_u64).filter(|capability| mask & 1 << capability != 0) {
        // SAFETY: prctl with plain numbers.
        let raised = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                capability,
                0,
                0,
            )
        };
        checked(5, raised)?;
    }
    Ok(())
}

fn working_directory(plan: &Plan) -> Outcome {
    // SAFETY: the path is NUL-terminated and lives in `plan`.
    checked(0, unsafe { libc::chdir(plan.working_directory.as_ptr()) })
}
