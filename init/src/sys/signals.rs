//! Signals as readable records: blocked everywhere, read from one signalfd.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A signal PID 1 acts on; numbers as systemd(1) documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// `SIGCHLD`: somebody ended.
    ChildEnded,
    /// `SIGINT`: Ctrl-Alt-Del, after `reboot(LINUX_REBOOT_CMD_CAD_OFF)`.
    CtrlAltDel,
    /// `SIGPWR`: the UPS runs out.
    PowerFail,
    /// `SIGRTMIN+3`.
    Halt,
    /// `SIGRTMIN+4`.
    PowerOff,
    /// `SIGRTMIN+5`.
    Reboot,
    /// Any other; nothing is done about it.
    Other(i32),
}

/// The signal mask of this process and the descriptor its signals are read from.
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks every signal and opens the descriptor. Call before anything else can raise one.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE`. Source: [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html).
    pub fn block_all() -> io::Result<Signals> {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set it is given; it cannot fail on a valid pointer.
        let mask = unsafe {
            libc::sigfillset(mask.as_mut_ptr());
            mask.assume_init()
        };
        // SAFETY: `mask` is initialised and outlives the call; no old set is asked for.
        if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()) }
            != 0
        {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `mask` is an initialised sigset_t that outlives the call; fd -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned `fd` to us; nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Signals { fd })
    }

    /// The next pending signal; `None` when there is none.
    pub fn next(&self) -> Option<Received> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.fd, &mut record).ok()?;
        if read != record.len() {
            return None;
        }
        // `ssi_signo` is the first field: a u32 in native order.
        let number = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
        Some(classify(i32::try_from(number).ok()?))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn classify(number: i32) -> Received {
    // The C library keeps the first real-time signals for itself, so the base is only known at run time.
    let first = libc::SIGRTMIN();
    match number {
        libc::SIGCHLD => Received::ChildEnded,
        libc::SIGINT => Received::CtrlAltDel,
        libc::SIGPWR => Received::PowerFail,
        number if number == first + 3 => Received::Halt,
        number if number == first + 4 => Received::PowerOff,
        number if number == first + 5 => Received::Reboot,
        other => Received::Other(other),
    }
}

/// `kill(-1, signal)`: every process this one may signal, except PID 1 itself and the caller.
///
/// # Errors
/// `ESRCH` when there is none.
pub fn signal_everyone(signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory. From PID 1 it reaches all other processes of the pid name space.
    if unsafe { libc::kill(-1, signal) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Signals PID 1 as `poweroff`, `reboot` and `halt` do.
///
/// # Errors
/// `EPERM` for anyone but root.
pub fn ask_init(wanted: Received) -> io::Result<()> {
    let signal = match wanted {
        Received::Halt => libc::SIGRTMIN() + 3,
        Received::PowerOff => libc::SIGRTMIN() + 4,
        _ => libc::SIGRTMIN() + 5,
    };
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(1, signal) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
