//! KVM where a kernel really runs on it, else TCG.
//!
//! That `/dev/kvm` opens proves nothing: under some clouds' nested virtualisation QEMU aborts on it, or the
//! guest stops in the kernel's decompressor. So a kernel is booted once per start of the host, until it
//! panics for want of a root.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mnemos_image::{Cache, progress};

use crate::machine::{Boot, Machine};
use crate::vm::Vm;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's translator: any host, about ten times slower.
    Tcg,
}

/// Under working KVM the probe takes about a second; where KVM hangs it takes this long, once.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// How far the probe's kernel must come.
const PROBE_END: &str = "Kernel panic - not syncing";

impl Accelerator {
    /// Decides by booting `kernel` without a root, and remembers the answer until the host restarts.
    ///
    /// # Errors
    /// When the cache cannot be written or QEMU cannot start at all.
    pub fn choose(cache: &Cache, kernel: &Path) -> Result<Self> {
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Self::Tcg);
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let remembered = cache.dir("qemu")?.join("accelerator");
        if let Some(known) = fs::read_to_string(&remembered)
            .ok()
            .and_then(|text| parse_remembered(&text, &boot_id))
        {
            return Ok(known);
        }
        let chosen = progress::step("does KVM work here", |step| {
            let chosen = if kernel_runs(kernel)? {
                Self::Kvm
            } else {
                Self::Tcg
            };
            step.note(&format!("{chosen:?}"));
            Ok(chosen)
        })?;
        fs::write(&remembered, format!("{}\n{chosen:?}\n", boot_id.trim()))?;
        Ok(chosen)
    }
}

fn kernel_runs(kernel: &Path) -> Result<bool> {
    let boot = Boot::Kernel {
        kernel: kernel.to_owned(),
        initramfs: "".into(),
        cmdline: "console=ttyS0 panic=-1".into(),
    };
    let machine = Machine {
        memory_mib: 256,
        cpus: 1,
        network: None,
        ..Machine::new(boot)
    };
    let vm = Vm::boot(&machine, Accelerator::Kvm)?;
    let ended = vm.console().wait_for_exit(PROBE_LIMIT).is_ok();
    let panicked = vm
        .console()
        .lines()
        .iter()
        .any(|line| line.text.contains(PROBE_END));
    Ok(ended && panicked)
}

fn parse_remembered(text: &str, boot_id: &str) -> Option<Accelerator> {
    let (written_at, answer) = text.trim().split_once('\n')?;
    match answer {
        _ if written_at != boot_id.trim() => None,
        "Kvm" => Some(Accelerator::Kvm),
        "Tcg" => Some(Accelerator::Tcg),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_one_boot_of_the_host() {
        assert_eq!(parse_remembered("a\nTcg\n", "a\n"), Some(Accelerator::Tcg));
        assert_eq!(parse_remembered("a\nKvm\n", "a"), Some(Accelerator::Kvm));
        assert_eq!(parse_remembered("a\nTcg\n", "b"), None);
        assert_eq!(parse_remembered("", "b"), None);
    }
}
