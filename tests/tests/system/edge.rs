//! Machines that lack something: the network, the processor's vector units, memory.

use anyhow::{Result, bail, ensure};
use mnemos_qemu::{Machine, Marker};
use mnemos_tests::runner::Runner;

use crate::machines::{BOOT_LIMIT, Machines, POWER_OFF_LIMIT};

/// Three boots.
pub(crate) fn run(runner: &mut Runner, machines: &Machines) {
    runner.test("edge::ready_without_network", || {
        ready_without_network(machines)
    });
    runner.test("edge::says_that_the_cpu_cannot_serve", || old_cpu(machines));
    runner.test("edge::says_that_memory_is_too_small", || {
        little_memory(machines)
    });
}

fn ready_without_network(machines: &Machines) -> Result<()> {
    let machine = Machine {
        network: None,
        ..machines.kernel()
    };
    let vm = machines.boot(&machine)?;
    let ready = vm.wait_for_ready(BOOT_LIMIT)?;
    ensure!(
        ready.urls.is_empty(),
        "without a network it shows {:?}",
        ready.urls
    );
    ensure!(
        ready.decode_tokens_per_s.is_some(),
        "the self-test measured no speed"
    );
    vm.power_off(POWER_OFF_LIMIT)
}

/// Nehalem has SSE 4.2 and no AVX: the engine must not even start there.
fn old_cpu(machines: &Machines) -> Result<()> {
    let machine = Machine {
        cpu_model: Some("Nehalem".to_owned()),
        ..machines.kernel()
    };
    let vm = machines.boot(&machine)?;
    let marker = vm.wait_for("cannot-serve", BOOT_LIMIT, |line| match &line.marker {
        Some(marker @ (Marker::CannotServe(_) | Marker::Ready(_) | Marker::Emergency(_))) => {
            Some(marker.clone())
        }
        _ => None,
    })?;
    let Marker::CannotServe(reason) = marker else {
        bail!("instead of cannot-serve it said {marker:?}");
    };
    ensure!(
        reason.reason.to_lowercase().contains("avx2"),
        "does not name what the CPU lacks: {}",
        reason.reason
    );
    vm.power_off(POWER_OFF_LIMIT)
}

/// 512 MiB hold the image, but no engine beside it.
fn little_memory(machines: &Machines) -> Result<()> {
    let machine = Machine {
        memory_mib: 512,
        ..machines.kernel()
    };
    let vm = machines.boot(&machine)?;
    vm.wait_for("a line about too little memory", BOOT_LIMIT, |line| {
        let said = match &line.marker {
            Some(Marker::Emergency(reason) | Marker::CannotServe(reason)) => &reason.reason,
            _ => return None,
        };
        said.to_lowercase().contains("memory").then_some(())
    })
}
