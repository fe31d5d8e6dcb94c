//! Real faults in a real node: the injector kills its processes while the image stays as it ships.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mnemos_qemu::wait::poll;
use mnemos_qemu::{Machine, injector};
use mnemos_tests::openai::Refusal;
use mnemos_tests::runner::Runner;
use serde_json::{Value, json};

use crate::api::greedy;
use crate::machines::{Machines, Node, POWER_OFF_LIMIT};

type Test = fn(&mut Node) -> Result<()>;

const TESTS: [(&str, Test); 5] = [
    ("faults::at_most_14_processes", at_most_14_processes),
    ("faults::only_the_promised_ports", only_the_promised_ports),
    ("faults::client_gone_mid_stream", client_gone_mid_stream),
    ("faults::engine_killed_mid_answer", engine_killed_mid_answer),
    ("faults::agent_killed", agent_killed),
];
const ENGINE: &str = "mnemos-neuron";
const AGENT: &str = "mnemos-agentd";
/// A restart takes under a second of backoff and a few of loading.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
/// Answers are short; the kill may come after the end of one.
const KILL_ATTEMPTS: usize = 8;

/// One boot for all of them.
pub(crate) fn run(runner: &mut Runner, machines: &Machines) {
    let names: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
    if !runner.wants(&names) {
        return;
    }
    let booted = injector::boot(&machines.artifacts).and_then(|boot| {
        let machine = Machine {
            control_port: true,
            ..Machine::new(boot)
        };
        Node::boot(machines, &machine)
    });
    let mut node = match booted {
        Ok(node) => node,
        Err(error) => return runner.test(TESTS[0].0, || Err(error)),
    };
    for (name, test) in TESTS {
        runner.test(name, || {
            test(&mut node).map_err(|error| node.vm.explain(error))
        });
    }
    runner.test("faults::powers_off_afterwards", || {
        node.vm.power_off(POWER_OFF_LIMIT)
    });
}

fn at_most_14_processes(node: &mut Node) -> Result<()> {
    let list = injector::processes(&node.vm)?;
    ensure!(
        list.len() <= 14,
        "{} processes: {}",
        list.len(),
        json!(list)
    );
    Ok(())
}

/// DESIGN §8: what is open is what is written there.
fn only_the_promised_ports(node: &mut Node) -> Result<()> {
    let open = injector::listening(&node.vm)?;
    let reachable = open.iter().filter(|socket| !is_local(&socket["address"]));
    let ports: BTreeSet<String> = reachable
        .map(|socket| format!("{}/{}", socket["port"], text(&socket["protocol"])))
        .collect();
    // DHCP's client port belongs to networkd.
    let allowed: BTreeSet<String> = ["443/tcp", "80/tcp", "68/udp"].map(str::to_owned).into();
    let surplus: Vec<&String> = ports.difference(&allowed).collect();
    ensure!(surplus.is_empty(), "also open: {surplus:?}");
    ensure!(
        ports.contains("443/tcp") && ports.contains("80/tcp"),
        "open: {ports:?}"
    );
    Ok(())
}

fn is_local(address: &Value) -> bool {
    text(address).starts_with("127.") || text(address) == "::1"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The engine stops working for a client that hung up: it is idle again in less than half the time that the
/// whole answer takes on this machine.
fn client_gone_mid_stream(node: &mut Node) -> Result<()> {
    let started = Instant::now();
    answers(node)?;
    let whole = started.elapsed();
    let arguments = greedy(node, "What is MNEMOS?")?;
    node.client
        .must(&json!({ "op": "abandon", "arguments": arguments }))?;
    let hung_up = Instant::now();
    wait_until("the engine to be idle", node, |node| {
        let status = node.http.get("/api/v1/status")?;
        Ok(status["engines"][0]["running"] == 0)
    })?;
    let idle = hung_up.elapsed();
    ensure!(
        idle < whole / 2,
        "idle {idle:?} after the client hung up; a whole answer takes {whole:?}"
    );
    answers(node)
}

/// That request ends with an error, the next one works, and nothing else restarted.
fn engine_killed_mid_answer(node: &mut Node) -> Result<()> {
    let before = restarts(node)?;
    let refusal = kill_engine_mid_answer(node)?;
    ensure!(
        refusal.message.contains("engine"),
        "the error does not say what happened: {refusal:?}"
    );
    wait_until("an answer after the restart", node, |node| {
        Ok(answers(node).is_ok())
    })?;
    for (unit, count) in restarts(node)? {
        let was = before
            .iter()
            .find(|(name, _)| *name == unit)
            .map_or(0, |(_, count)| *count);
        if unit.starts_with(ENGINE) {
            ensure!(count > was, "{unit} did not restart");
        } else {
            ensure!(count == was, "{unit} restarted, too");
        }
    }
    Ok(())
}

fn kill_engine_mid_answer(node: &mut Node) -> Result<Refusal> {
    for _ in 0..KILL_ATTEMPTS {
        let mut arguments = greedy(node, "What is MNEMOS?")?;
        arguments["stream"] = json!(true);
        let mut killed = 0;
        let Node { client, vm, .. } = node;
        let outcome = client.ask(
            &json!({ "op": "chat", "arguments": arguments, "events": true }),
            |_| {
                if killed == 0 {
                    killed = injector::kill(vm, ENGINE)?;
                }
                Ok(())
            },
        )?;
        match outcome {
            Err(refusal) if killed == 1 => return Ok(refusal),
            Err(refusal) => bail!("refused before the kill ({killed} killed): {refusal:?}"),
            // The answer was complete before the kill arrived.
            Ok(_) => wait_until("an answer after the restart", node, |node| {
                Ok(answers(node).is_ok())
            })?,
        }
    }
    bail!("{KILL_ATTEMPTS} answers ended before the engine could be killed")
}

/// Engines keep running and are found again. The token and the CA are the same: clients notice a pause at most.
fn agent_killed(node: &mut Node) -> Result<()> {
    let engine = main_pid(node, ENGINE)?;
    let killed = injector::kill(&node.vm, AGENT)?;
    ensure!(killed == 1, "{killed} agents killed");
    wait_until("an answer after the agent's restart", node, |node| {
        Ok(answers(node).is_ok())
    })?;
    let now = main_pid(node, ENGINE)?;
    ensure!(
        engine == now,
        "the engine restarted with the agent: pid {engine}, now {now}"
    );
    Ok(())
}

fn answers(node: &mut Node) -> Result<()> {
    let arguments = greedy(node, "What is MNEMOS?")?;
    node.client
        .must(&json!({ "op": "chat", "arguments": arguments }))
        .map(drop)
}

fn restarts(node: &Node) -> Result<Vec<(String, u64)>> {
    let status = node.http.get("/api/v1/status")?;
    let units = status["services"]
        .as_array()
        .context("no services in the status")?;
    let row = |unit: &Value| {
        Some((
            unit["name"].as_str()?.to_owned(),
            unit["restarts"].as_u64()?,
        ))
    };
    units
        .iter()
        .map(|unit| row(unit).with_context(|| format!("not a unit: {unit}")))
        .collect()
}

fn main_pid(node: &Node, program: &str) -> Result<u64> {
    let list = injector::processes(&node.vm)?;
    let found = list
        .iter()
        .find(|process| process["name"] == program)
        .and_then(|process| process["pid"].as_u64());
    found.with_context(|| format!("{program} does not run: {list:?}"))
}

/// Asks again and again; each question takes the node's own time to answer or fail.
fn wait_until(
    what: &str,
    node: &mut Node,
    mut met: impl FnMut(&mut Node) -> Result<bool>,
) -> Result<()> {
    poll(what, RECOVERY_LIMIT, || Ok(met(node)?.then_some(())))
}
