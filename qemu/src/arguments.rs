//! QEMU's command line for a [`Machine`]: pure, so that every choice is a unit test.

use std::path::{Path, PathBuf};

use crate::accelerator::Accelerator;
use crate::machine::{Boot, Display, Firmware, Forward, Machine};

/// The emulator this crate is written for.
pub const QEMU: &str = "qemu-system-x86_64";
/// OVMF without Secure Boot, from Debian's `ovmf`.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// OVMF's empty variable store, copied for each machine.
pub const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Has AVX2, which the engine needs, and runs under TCG.
const TCG_CPU: &str = "Haswell-noTSX-IBRS";

/// Two seconds into the boot the kernel patches its scheduler's clock while all CPUs run through it, unless it knows
/// already that the TSC is no use. Under QEMU 7.2's multi-threaded TCG about one boot in twenty then died of the `int3`
/// that the patching leaves for a moment (2026-11, kernel 6.12.117: `Oops: int3` in `sched_clock_cpu`).
const TCG_CLOCK: &str = " tsc=unstable";

/// Files of one running machine.
#[derive(Debug, Clone)]
pub struct Paths {
    /// QMP socket.
    pub qmp: PathBuf,
    /// Copy of everything the first serial port printed.
    pub serial_log: PathBuf,
    /// Socket of the second serial port.
    pub control: PathBuf,
    /// This machine's UEFI variables.
    pub uefi_variables: PathBuf,
}

/// A medium brings its own kernel arguments, so there all CPUs share one thread, and nothing can race; see [`TCG_CLOCK`].
fn tcg(boot: &Boot) -> &'static str {
    match boot {
        Boot::Kernel { .. } => "tcg,thread=multi",
        Boot::Cd(_) | Boot::Usb(_) => "tcg,thread=single",
    }
}

/// The arguments for `machine`. Every forward must have its host port by now.
#[must_use]
pub fn arguments(machine: &Machine, accelerator: Accelerator, paths: &Paths) -> Vec<String> {
    let mut list = Arguments(Vec::new());
    list.flag("-nodefaults");
    list.flag("-no-user-config");
    list.pair("-machine", "q35");
    match accelerator {
        Accelerator::Kvm => list.pair("-accel", "kvm"),
        Accelerator::Tcg => list.pair("-accel", tcg(&machine.boot)),
    }
    let cpu = match (&machine.cpu_model, accelerator) {
        (Some(model), _) => model,
        (None, Accelerator::Kvm) => "host",
        (None, Accelerator::Tcg) => TCG_CPU,
    };
    list.pair("-cpu", cpu);
    list.pair("-m", &machine.memory_mib.to_string());
    list.pair("-smp", &machine.cpus.to_string());
    list.pair("-device", "virtio-rng-pci");
    if machine.no_reboot {
        list.flag("-no-reboot");
    }
    list.screen(machine.display);
    list.serial_and_qmp(machine, paths);
    list.network(machine.network.as_deref());
    list.firmware(machine.firmware, paths);
    list.boot(&machine.boot, accelerator);
    list.disks(&machine.disks);
    list.0
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.0.push(name.to_owned());
        self.0.push(value.to_owned());
    }

    fn screen(&mut self, display: Display) {
        self.pair("-device", "VGA");
        self.pair(
            "-display",
            match display {
                Display::Headless => "none",
                Display::Gtk => "gtk",
            },
        );
    }

    fn serial_and_qmp(&mut self, machine: &Machine, paths: &Paths) {
        let log = escape(&paths.serial_log);
        self.pair(
            "-chardev",
            &format!("stdio,id=serial0,signal=off,logfile={log}"),
        );
        self.pair("-serial", "chardev:serial0");
        if machine.control_port {
            let control = escape(&paths.control);
            self.pair(
                "-chardev",
                &format!("socket,id=serial1,path={control},server=on,wait=off"),
            );
            self.pair("-serial", "chardev:serial1");
        }
        let qmp = escape(&paths.qmp);
        self.pair("-qmp", &format!("unix:{qmp},server=on,wait=off"));
    }

    fn network(&mut self, forwards: Option<&[Forward]>) {
        let Some(forwards) = forwards else {
            // Otherwise q35 adds its own card.
            self.pair("-nic", "none");
            return;
        };
        let rules: String = forwards
            .iter()
            .map(|Forward { host, guest }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"))
            .collect();
        self.pair("-netdev", &format!("user,id=net0{rules}"));
        // Without its ROM the card does not try to boot from the network.
        self.pair("-device", "virtio-net-pci,netdev=net0,romfile=");
    }

    fn firmware(&mut self, firmware: Firmware, paths: &Paths) {
        if firmware == Firmware::Uefi {
            self.pair(
                "-drive",
                &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"),
            );
            let variables = escape(&paths.uefi_variables);
            self.pair(
                "-drive",
                &format!("if=pflash,unit=1,format=raw,file={variables}"),
            );
        }
    }

    fn boot(&mut self, boot: &Boot, accelerator: Accelerator) {
        match boot {
            Boot::Kernel {
                kernel,
                initramfs,
                cmdline,
            } => {
                self.pair("-kernel", &kernel.to_string_lossy());
                let racing = accelerator == Accelerator::Tcg;
                let clock = if racing { TCG_CLOCK } else { "" };
                self.pair("-append", &format!("{cmdline}{clock}"));
                if !initramfs.as_os_str().is_empty() {
                    self.pair("-initrd", &initramfs.to_string_lossy());
                }
            }
            Boot::Cd(iso) => {
                let iso = escape(iso);
                self.pair(
                    "-drive",
                    &format!("if=none,id=medium,media=cdrom,format=raw,readonly=on,file={iso}"),
                );
                self.pair("-device", "ide-cd,drive=medium,bus=ide.0,bootindex=0");
            }
            Boot::Usb(iso) => {
                let iso = escape(iso);
                // A stick is writable; what is written to this one is thrown away.
                self.pair(
                    "-drive",
                    &format!("if=none,id=medium,format=raw,snapshot=on,file={iso}"),
                );
                self.pair("-device", "qemu-xhci");
                self.pair("-device", "usb-storage,drive=medium,bootindex=0");
            }
        }
    }

    fn disks(&mut self, disks: &[PathBuf]) {
        for (index, disk) in disks.iter().enumerate() {
            let disk = escape(disk);
            self.pair(
                "-drive",
                &format!("if=none,id=disk{index},format=raw,file={disk}"),
            );
            self.pair(
                "-device",
                &format!("virtio-blk-pci,drive=disk{index},serial=disk{index}"),
            );
        }
    }
}

/// A path inside an option list: QEMU separates by commas and reads two as one.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine, accelerator: Accelerator) -> String {
        let paths = Paths {
            qmp: "/run/vm/qmp".into(),
            serial_log: "/run/v,m/serial.log".into(),
            control: "/run/vm/control".into(),
            uefi_variables: "/run/vm/vars.fd".into(),
        };
        arguments(machine, accelerator, &paths).join(" ")
    }

    #[test]
    fn tcg_pins_a_cpu_with_avx2() {
        let machine = Machine::new(Boot::Cd("a.iso".into()));
        assert!(line(&machine, Accelerator::Tcg).contains("-cpu Haswell-noTSX-IBRS"));
        assert!(line(&machine, Accelerator::Kvm).contains("-accel kvm -cpu host"));
        let old = Machine {
            cpu_model: Some("Nehalem".into()),
            ..machine
        };
        assert!(line(&old, Accelerator::Tcg).contains("-cpu Nehalem"));
    }

    #[test]
    fn media() {
        let cd = line(&Machine::new(Boot::Cd("a.iso".into())), Accelerator::Tcg);
        assert!(cd.contains("-accel tcg,thread=single"), "{cd}");
        assert!(
            cd.contains("media=cdrom,format=raw,readonly=on,file=a.iso"),
            "{cd}"
        );
        let usb = line(&Machine::new(Boot::Usb("a.iso".into())), Accelerator::Tcg);
        assert!(
            usb.contains("-device qemu-xhci -device usb-storage,drive=medium,bootindex=0"),
            "{usb}"
        );
        assert!(!usb.contains("pflash") && !usb.contains("-kernel"), "{usb}");
    }

    #[test]
    fn no_network_means_no_card() {
        let machine = Machine {
            network: None,
            ..Machine::new(Boot::Cd("a.iso".into()))
        };
        let line = line(&machine, Accelerator::Tcg);
        assert!(
            line.contains("-nic none") && !line.contains("virtio-net"),
            "{line}"
        );
    }

    #[test]
    fn forwards_listen_on_loopback_only() {
        let network = Some(vec![Forward {
            host: 8443,
            guest: 443,
        }]);
        let machine = Machine {
            network,
            ..Machine::new(Boot::Cd("a.iso".into()))
        };
        assert!(line(&machine, Accelerator::Tcg).contains("hostfwd=tcp:127.0.0.1:8443-:443"));
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        let machine = Machine::new(Boot::Cd("a,b.iso".into()));
        let line = line(&machine, Accelerator::Tcg);
        assert!(
            line.contains("file=a,,b.iso") && line.contains("logfile=/run/v,,m/"),
            "{line}"
        );
    }
}
