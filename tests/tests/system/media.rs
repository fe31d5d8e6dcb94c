//! One ISO, two firmwares, two media. BIOS with a CD is what the API tests boot.

use anyhow::{Result, ensure};
use mnemos_qemu::{Boot, Firmware, Machine};
use mnemos_tests::runner::Runner;
use serde_json::json;

use crate::api::greedy;
use crate::machines::{Machines, Node, POWER_OFF_LIMIT};

/// UEFI from a stick always; the other two with `--long`.
pub(crate) fn run(runner: &mut Runner, machines: &Machines, long: bool) {
    runner.test("media::image_content", || {
        mnemos_image::check::run(&machines.artifacts)
    });
    runner.test("media::iso_at_most_250_mb", || {
        let bytes = machines.iso.metadata()?.len();
        ensure!(bytes <= 250_000_000, "the ISO has {bytes} bytes");
        Ok(())
    });
    let usb = Boot::Usb(machines.iso.clone());
    runner.test("media::usb_under_uefi", || {
        boots(machines, Firmware::Uefi, &usb)
    });
    if long {
        let cd = Boot::Cd(machines.iso.clone());
        runner.test("media::usb_under_bios", || {
            boots(machines, Firmware::Bios, &usb)
        });
        runner.test("media::cd_under_uefi", || {
            boots(machines, Firmware::Uefi, &cd)
        });
    }
}

/// From the medium to an answer, and off by the power button.
fn boots(machines: &Machines, firmware: Firmware, boot: &Boot) -> Result<()> {
    let machine = Machine {
        firmware,
        ..Machine::new(boot.clone())
    };
    let mut node = Node::boot(machines, &machine)?;
    let arguments = greedy(&node, "What is MNEMOS?")?;
    node.client
        .must(&json!({ "op": "chat", "arguments": arguments }))?;
    node.vm.power_off(POWER_OFF_LIMIT)
}
