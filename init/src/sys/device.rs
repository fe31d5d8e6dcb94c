//! ioctls of the devices PID 1 uses itself: loop, watchdog, power button.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// linux/loop.h.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// linux/watchdog.h: `_IOWR('W', 6, int)`, `_IOR('W', 5, int)`.
const WDIOC_SETTIMEOUT: libc::Ioctl = 0xC004_5706;
const WDIOC_KEEPALIVE: libc::Ioctl = 0x8004_5705;
/// linux/input.h: `_IOC(_IOC_READ, 'E', 0x20 + EV_KEY, 96)`.
const EVIOCGBIT_KEY_96: libc::Ioctl = 0x8060_4521;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// `struct loop_config` of linux/loop.h (304 bytes).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64` of linux/loop.h (232 bytes).
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// A block device over a file. The device frees itself when it is last closed and unmounted.
pub struct LoopDevice {
    /// For example `/dev/loop0`.
    pub path: PathBuf,
    /// Keeps the device configured until it is mounted.
    pub file: File,
}

impl LoopDevice {
    /// Attaches `backing`, read-only, to a free loop device.
    ///
    /// # Errors
    /// What `/dev/loop-control`, the device or `LOOP_CONFIGURE` said, for example `ENOENT` without loop.ko.
    pub fn attach(backing: &File) -> io::Result<LoopDevice> {
        let control = File::open("/dev/loop-control")?;
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = Path::new("/dev").join(format!("loop{number}"));
        let file = File::open(&path)?;
        let config = LoopConfig {
            fd: backing.as_raw_fd().unsigned_abs(),
            block_size: 4096,
            info: LoopInfo64 {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                sizelimit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        };
        // SAFETY: `config` has the layout of struct loop_config, is initialised and outlives the call, which
        // only reads it; both descriptors are open.
        if unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(LoopDevice { path, file })
    }
}

/// An armed hardware watchdog: the machine is reset unless [`Watchdog::feed`] is called in time.
pub struct Watchdog {
    file: File,
    /// What the hardware took, in seconds.
    pub timeout_s: i32,
}

impl Watchdog {
    /// Opens, which arms, and asks for `timeout_s` seconds; the hardware may take another value.
    ///
    /// # Errors
    /// `ENOENT` without a watchdog, `EBUSY` when somebody else has it.
    pub fn arm(path: &Path, timeout_s: i32) -> io::Result<Watchdog> {
        let file = File::options().write(true).open(path)?;
        let mut timeout_s = timeout_s;
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which outlives the call.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut timeout_s) };
        if set < 0 {
            // Hardware with a fixed time-out, often 30 s or more: fed as if it were 30.
            timeout_s = 30;
        }
        Ok(Watchdog { file, timeout_s })
    }

    /// Puts off the reset by another time-out. Failure is ignored: there is nothing PID 1 could do.
    pub fn feed(&self) {
        // SAFETY: WDIOC_KEEPALIVE ignores its argument; the descriptor is open.
        unsafe { libc::ioctl(self.file.as_raw_fd(), WDIOC_KEEPALIVE, 0) };
    }
}

/// Whether the evdev device has a power key.
pub fn reports_power_key(device: &File) -> bool {
    let mut keys = [0_u8; 96];
    // SAFETY: the request says 96 bytes, and that is what `keys` holds.
    let filled = unsafe { libc::ioctl(device.as_raw_fd(), EVIOCGBIT_KEY_96, keys.as_mut_ptr()) };
    filled >= 0 && keys[usize::from(KEY_POWER / 8)] & 1 << (KEY_POWER % 8) != 0
}

/// Whether `records`, read from an evdev device, hold a press of the power key.
pub fn is_power_key(records: &[u8]) -> bool {
    // struct input_event on 64 bit: two i64 of time, u16 type, u16 code, i32 value.
    records.chunks_exact(24).any(|record| {
        let kind = u16::from_ne_bytes([record[16], record[17]]);
        let code = u16::from_ne_bytes([record[18], record[19]]);
        let value = i32::from_ne_bytes([record[20], record[21], record[22], record[23]]);
        (kind, code, value) == (EV_KEY, KEY_POWER, 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn power_key_is_found_among_other_events() {
        let record = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        let release = [record(EV_KEY, KEY_POWER, 0), record(0, 0, 0)].concat();
        assert!(!is_power_key(&release));
        assert!(is_power_key(
            &[record(EV_KEY, 30, 1), record(EV_KEY, KEY_POWER, 1)].concat()
        ));
        assert!(!is_power_key(b"short"));
    }
}
