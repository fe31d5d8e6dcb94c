//! What a virtual machine consists of: plain data, with the parsers of the command line's values.

use mnemos_image::host::Needed;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What running a machine takes on the host.
pub const FOR_QEMU: &[Needed] = &[
    Needed {
        file: "/usr/bin/qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Needed {
        file: "/usr/share/seabios/bios-256k.bin",
        package: "seabios",
    },
];

/// What UEFI takes beside that.
pub const FOR_UEFI: &[Needed] = &[Needed {
    file: crate::arguments::OVMF_CODE,
    package: "ovmf",
}];

/// Guest port of the API and the page.
pub const HTTPS_PORT: u16 = 443;
/// Guest port of the CA certificate and the redirect.
pub const HTTP_PORT: u16 = 80;

/// A virtual machine to boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// What starts the boot medium. Direct kernel boot ignores it.
    pub firmware: Firmware,
    /// What is booted.
    pub boot: Boot,
    /// QEMU's CPU model. `None`: one that can run the engine under the accelerator in use.
    pub cpu_model: Option<String>,
    /// Host ports that lead into the guest. `None`: no network card at all.
    pub network: Option<Vec<Forward>>,
    /// Raw images attached as virtio disks, in this order.
    pub disks: Vec<PathBuf>,
    /// Where the screen goes.
    pub display: Display,
    /// A reset ends QEMU instead of booting again.
    pub no_reboot: bool,
    /// A second serial port on a Unix socket, for the tests' fault injector.
    pub control_port: bool,
}

impl Machine {
    /// A 2 GiB machine with 2 CPUs and a network card whose ports 443 and 80 get free host ports.
    #[must_use]
    pub fn new(boot: Boot) -> Self {
        Self {
            memory_mib: 2048,
            cpus: 2,
            firmware: Firmware::Bios,
            boot,
            cpu_model: None,
            network: Some(vec![Forward::to(HTTPS_PORT), Forward::to(HTTP_PORT)]),
            disks: Vec::new(),
            display: Display::Headless,
            no_reboot: true,
            control_port: false,
        }
    }
}

/// What the machine boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initramfs itself.
    Kernel {
        /// Kernel image.
        kernel: PathBuf,
        /// Initramfs.
        initramfs: PathBuf,
        /// Kernel command line.
        cmdline: String,
    },
    /// An ISO in a CD drive.
    Cd(PathBuf),
    /// The same ISO written to a USB stick.
    Usb(PathBuf),
}

/// What starts the boot medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without Secure Boot.
    Uefi,
}

/// Which boot medium a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Direct kernel boot, no medium.
    Kernel,
    /// ISO as CD.
    Cd,
    /// ISO as USB stick.
    Usb,
}

/// Where the screen goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// No window; the serial lines are enough.
    Headless,
    /// A GTK window.
    Gtk,
}

/// A host port on loopback that leads to a guest port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Host port, 0 for any free one.
    pub host: u16,
    /// Guest port.
    pub guest: u16,
}

impl Forward {
    /// A free host port that leads to `guest`.
    #[must_use]
    pub fn to(guest: u16) -> Self {
        Self { host: 0, guest }
    }
}

/// A value that an option does not take. Its text completes the sentence "`--option`: ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    value: String,
    wanted: &'static str,
}

impl fmt::Display for ValueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} is not accepted; give {}",
            self.value, self.wanted
        )
    }
}

impl std::error::Error for ValueError {}

fn refuse(value: &str, wanted: &'static str) -> ValueError {
    ValueError {
        value: value.to_owned(),
        wanted,
    }
}

impl FromStr for Firmware {
    type Err = ValueError;

    fn from_str(value: &str) -> Result<Self, ValueError> {
        match value {
            "bios" => Ok(Self::Bios),
            "uefi" => Ok(Self::Uefi),
            _ => Err(refuse(value, "bios or uefi")),
        }
    }
}

impl FromStr for Media {
    type Err = ValueError;

    fn from_str(value: &str) -> Result<Self, ValueError> {
        match value {
            "kernel" => Ok(Self::Kernel),
            "cd" => Ok(Self::Cd),
            "usb" => Ok(Self::Usb),
            _ => Err(refuse(value, "kernel, cd or usb")),
        }
    }
}

impl FromStr for Forward {
    type Err = ValueError;

    fn from_str(value: &str) -> Result<Self, ValueError> {
        let error = || refuse(value, "HOST:GUEST, two port numbers, for example 8443:443");
        let (host, guest) = value.split_once(':').ok_or_else(error)?;
        let host = host.parse().map_err(|_| error())?;
        let guest = guest
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(error)?;
        Ok(Self { host, guest })
    }
}

/// Parses a memory size in MiB. QEMU boots with less, but says nothing on a machine without room for a kernel.
///
/// # Errors
/// Not a number from 64 to 1 048 576.
pub fn parse_memory_mib(value: &str) -> Result<u32, ValueError> {
    in_range(
        value,
        64,
        1 << 20,
        "a number of MiB from 64 to 1048576; a node needs 2048",
    )
}

/// Parses a number of virtual processors.
///
/// # Errors
/// Not a number from 1 to 255.
pub fn parse_cpus(value: &str) -> Result<u32, ValueError> {
    in_range(value, 1, 255, "a number from 1 to 255")
}

fn in_range(value: &str, least: u32, most: u32, wanted: &'static str) -> Result<u32, ValueError> {
    value
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| refuse(value, wanted))
}

/// Parses a disk size such as `512M`, `8G` or `1T` into bytes.
///
/// # Errors
/// No whole number with one of these units, zero, or more than fits.
pub fn parse_disk_bytes(value: &str) -> Result<u64, ValueError> {
    let error = || refuse(value, "a size with its unit, for example 512M, 8G or 1T");
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &value[digits.len()..] {
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes > 0 && bytes <= 1 << 46 => Ok(bytes),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_disk_bytes("8G"), Ok(8 << 30));
        assert_eq!(parse_disk_bytes("512MiB"), Ok(512 << 20));
        for bad in [
            "",
            "8",
            "G",
            "0G",
            "-1G",
            "1.5G",
            "8GG",
            "99999999T",
            "8 G",
            "8Gé",
        ] {
            assert!(parse_disk_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forwards_are_two_ports() {
        let forward = Forward {
            host: 8443,
            guest: 443,
        };
        assert_eq!("8443:443".parse(), Ok(forward));
        for bad in ["", "443", "a:1", "1:0", "1:70000", "1:2:3"] {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals_name_value_and_remedy() {
        let error = "efi".parse::<Firmware>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"efi\" is not accepted; give bios or uefi"
        );
        assert!(parse_cpus("0").is_err());
        assert!(
            parse_memory_mib("2G")
                .unwrap_err()
                .to_string()
                .contains("MiB")
        );
    }
}
