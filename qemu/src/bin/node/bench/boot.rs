//! One boot of the node by direct kernel boot, measured from outside.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mnemos_image::Artifacts;
use mnemos_qemu::machine::{HTTP_PORT, HTTPS_PORT};
use mnemos_qemu::{Accelerator, Boot, Machine, Marker, NodeClient, Vm, client, injector};
use serde_json::Value;

use super::report::{Node, Stage};
use crate::options::Options;
use crate::prepare;
use crate::run::{BOOT_LIMIT, POWER_OFF_LIMIT};

/// A new attempt starts this often, since one that came too early may hang in QEMU's network.
const ATTEMPT_EVERY: Duration = Duration::from_millis(250);

/// Boots the node as it ships, then once more with the injector, which counts processes and ports.
pub(super) fn node(
    options: &Options,
    artifacts: &Artifacts,
    accelerator: Accelerator,
) -> Result<Node> {
    let vm = Vm::boot(&machine(options, prepare::kernel(artifacts)), accelerator)?;
    let (https, http) = (vm.port(HTTPS_PORT)?, vm.port(HTTP_PORT)?);
    let first_https = first(&vm, move || client::answers_verified(https, http))?;
    let ready = vm.wait_for_ready(BOOT_LIMIT)?;
    let ready_at = vm.wait_for("MNEMOS-READY", Duration::ZERO, |line| {
        matches!(line.marker, Some(Marker::Ready(_))).then_some(line.at)
    })?;
    let status = NodeClient::connect(&vm, &ready)?.get("/api/v1/status")?;
    let memory = |name: &str| {
        status["memory"][name]
            .as_u64()
            .with_context(|| format!("no memory.{name} in the status"))
    };
    let used = memory("total_bytes")?.saturating_sub(memory("available_bytes")?);
    let stages = stages(&vm);
    let ready_s = (ready_at - vm.started()).as_secs_f64();
    vm.power_off(POWER_OFF_LIMIT)?;
    drop(vm);
    let (processes, listening) = inside(options, artifacts, accelerator)?;
    Ok(Node {
        first_https_s: first_https.as_secs_f64(),
        ready_s,
        stages,
        memory_used_bytes: used,
        processes,
        listening,
        self_test_decode_tokens_per_s: ready.decode_tokens_per_s,
    })
}

/// The machine asked for, with `boot` and its own ports.
pub(super) fn machine(options: &Options, boot: Boot) -> Machine {
    Machine {
        memory_mib: options.memory_mib,
        cpus: options.cpus,
        ..Machine::new(boot)
    }
}

/// Time from QEMU's start until `answers` was true for the first time.
pub(super) fn first(
    vm: &Vm,
    answers: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Duration> {
    let (sender, receiver) = mpsc::channel();
    loop {
        let (answers, sender, started) = (answers.clone(), sender.clone(), vm.started());
        std::thread::spawn(move || {
            if answers() {
                // Nobody listens any more to the attempts after the first that got through.
                let _ = sender.send(started.elapsed());
            }
        });
        match receiver.recv_timeout(ATTEMPT_EVERY) {
            Ok(elapsed) => return Ok(elapsed),
            Err(RecvTimeoutError::Timeout)
                if vm.started().elapsed() < BOOT_LIMIT && vm.console().exit().is_none() => {}
            Err(_) => bail!(vm.explain(anyhow::anyhow!("no answer from the network"))),
        }
    }
}

fn stages(vm: &Vm) -> Vec<Stage> {
    let ended = |line: mnemos_qemu::console::Line| match line.marker {
        Some(Marker::Stage(stage)) if stage.state != "start" => Some(Stage {
            stage: stage.stage,
            state: stage.state,
            host_s: (line.at - vm.started()).as_secs_f64(),
            guest_s: Duration::from_millis(stage.uptime_ms).as_secs_f64(),
        }),
        _ => None,
    };
    vm.console().lines().into_iter().filter_map(ended).collect()
}

/// Names of the processes and open ports of a ready node.
fn inside(
    options: &Options,
    artifacts: &Artifacts,
    accelerator: Accelerator,
) -> Result<(Vec<String>, Vec<String>)> {
    let machine = Machine {
        control_port: true,
        ..machine(options, injector::boot(artifacts)?)
    };
    let vm = Vm::boot(&machine, accelerator)?;
    vm.wait_for_ready(BOOT_LIMIT)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let processes = injector::processes(&vm)?
        .iter()
        .map(|process| text(&process["name"]))
        .collect();
    let open = injector::listening(&vm)?;
    let reachable = open
        .iter()
        .filter(|socket| !text(&socket["address"]).starts_with("127."));
    let mut listening: Vec<String> = reachable
        .map(|socket| format!("{}/{}", socket["port"], text(&socket["protocol"])))
        .collect();
    listening.sort();
    listening.dedup();
    vm.power_off(POWER_OFF_LIMIT)?;
    Ok((processes, listening))
}
