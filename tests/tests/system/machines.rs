//! What every test boots from, and the limits of every wait.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use mnemos_image::host;
use mnemos_image::{Artifacts, Cache};
use mnemos_qemu::machine;
use mnemos_qemu::{Accelerator, Boot, Machine, NodeClient, Ready, Vm};
use mnemos_tests::openai::OpenAi;

/// Beyond this a boot hangs: under TCG on a busy 2-core host one takes up to 90 s.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// PID 1 gives services some seconds each to stop.
pub(crate) const POWER_OFF_LIMIT: Duration = Duration::from_secs(120);

/// The media under test and how they are executed.
pub(crate) struct Machines {
    pub(crate) artifacts: Artifacts,
    pub(crate) iso: PathBuf,
    accelerator: Accelerator,
}

impl Machines {
    pub(crate) fn prepare() -> Result<Self> {
        host::ensure(machine::FOR_QEMU)?;
        host::ensure(machine::FOR_UEFI)?;
        let artifacts = mnemos_image::build()?;
        let iso = mnemos_iso::build(&artifacts)?;
        let accelerator = Accelerator::choose(&Cache::open()?, &artifacts.kernel)?;
        Ok(Self {
            artifacts,
            iso,
            accelerator,
        })
    }

    /// Direct kernel boot, for tests of what comes after the boot loader.
    pub(crate) fn kernel(&self) -> Machine {
        Machine::new(Boot::Kernel {
            kernel: self.artifacts.kernel.clone(),
            initramfs: self.artifacts.initramfs.clone(),
            cmdline: self.artifacts.cmdline.clone(),
        })
    }

    pub(crate) fn boot(&self, machine: &Machine) -> Result<Vm> {
        Vm::boot(machine, self.accelerator)
    }
}

/// A ready node with a client bound to it.
pub(crate) struct Node {
    pub(crate) client: OpenAi,
    pub(crate) http: NodeClient,
    pub(crate) ready: Ready,
    pub(crate) vm: Vm,
}

impl Node {
    pub(crate) fn boot(machines: &Machines, machine: &Machine) -> Result<Self> {
        let vm = machines.boot(machine)?;
        let ready = vm.wait_for_ready(BOOT_LIMIT)?;
        let http = NodeClient::connect(&vm, &ready)?;
        let client = OpenAi::start(&http, &ready.token)?;
        Ok(Self {
            client,
            http,
            ready,
            vm,
        })
    }

    /// Name of the model that the node says it serves.
    pub(crate) fn model(&self) -> Result<String> {
        self.ready
            .model
            .clone()
            .context("the ready node names no model")
    }
}
