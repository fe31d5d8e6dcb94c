//! Boots a node for a person, or for a check of the whole path from power-on to the first token.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use mnemos_image::{Cache, progress};
use mnemos_qemu::console::Next;
use mnemos_qemu::machine::{HTTP_PORT, HTTPS_PORT};
use mnemos_qemu::{Accelerator, Marker, NodeClient, Ready, Vm};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::options::Options;
use crate::prepare;

/// A boot under TCG takes half a minute on an idle host; beyond this something hangs.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// PID 1 gives services 10 s each to stop.
pub(crate) const POWER_OFF_LIMIT: Duration = Duration::from_secs(120);
/// A prompt of the kind the self-test model was trained for.
const CHECK_PROMPT: &str = "What is MNEMOS?";

/// Boots a node and keeps it until it powers off.
pub(crate) fn run(options: &Options) -> Result<()> {
    let prepared = prepare::prepare(options)?;
    let vm = Arc::new(Vm::boot(&prepared.machine, prepared.accelerator)?);
    println!(
        "booting under {:?}; Ctrl-C powers the node off",
        prepared.accelerator
    );
    power_off_on_signals(Arc::clone(&vm))?;
    let mut position = 0;
    loop {
        // The limit only bounds one wait: nothing is wrong with a silent node.
        match vm.console().next(position, Instant::now() + BOOT_LIMIT) {
            Next::Line(line) => {
                position += 1;
                match line.marker {
                    Some(Marker::Ready(ready)) => say_ready(&vm, &ready, prepared.accelerator),
                    Some(_) => {}
                    None if line.text.trim().is_empty() => {}
                    None => println!("  | {}", line.text),
                }
            }
            Next::Deadline => {}
            Next::Exited(_) => break,
        }
    }
    vm.wait_for_exit(Duration::ZERO)?;
    println!("the node is off");
    Ok(())
}

/// Boots a node, lets it answer once over verified TLS, and powers it off.
pub(crate) fn check(options: &Options) -> Result<()> {
    let prepared = prepare::prepare(options)?;
    let name = format!(
        "boot the node ({:?}, {:?}, {:?})",
        options.media, options.firmware, prepared.accelerator
    );
    let (vm, ready) = progress::step(&name, |step| {
        let vm = Vm::boot(&prepared.machine, prepared.accelerator)?;
        let mut shown = 0;
        let ready = loop {
            match vm
                .console()
                .next(shown, Instant::now() + Duration::from_secs(1))
            {
                Next::Line(line) => {
                    shown += 1;
                    step.note(&line.text);
                    if matches!(
                        line.marker,
                        Some(Marker::Ready(_) | Marker::Emergency(_) | Marker::CannotServe(_))
                    ) {
                        break vm.wait_for_ready(Duration::ZERO)?;
                    }
                }
                Next::Deadline if vm.started().elapsed() < BOOT_LIMIT => {}
                Next::Deadline | Next::Exited(_) => break vm.wait_for_ready(Duration::ZERO)?,
            }
        };
        Ok((vm, ready))
    })?;
    let client = NodeClient::connect(&vm, &ready).inspect_err(|_| say_where_logs_are(&vm))?;
    println!(
        "CA {} is the one on the node's console",
        client.ca().fingerprint
    );
    let model = ready
        .model
        .as_deref()
        .ok_or_else(|| anyhow!("the ready node names no model"))?;
    println!("{} {model}: {CHECK_PROMPT}", client.url());
    print!("> ");
    let answer = client.chat(model, CHECK_PROMPT, 64, |text| {
        print!("{text}");
        // The answer is repeated in full by any error that matters.
        let _ = std::io::stdout().flush();
    });
    println!();
    let answer = answer.inspect_err(|_| say_where_logs_are(&vm))?;
    let speed = answer.tokens_per_s().map_or_else(
        || "too short to time".to_owned(),
        |speed| format!("{speed:.1} tokens/s"),
    );
    println!(
        "{} tokens, finish_reason {}, first token after {:.2} s, {speed}",
        answer.completion_tokens,
        answer.finish_reason,
        answer.first_token.as_secs_f64()
    );
    progress::step("power the node off", |_| vm.power_off(POWER_OFF_LIMIT))
}

fn say_where_logs_are(vm: &Vm) {
    eprintln!("the node's console is in {}", vm.keep_logs().display());
}

/// First signal: the power button. Second: the plug.
fn power_off_on_signals(vm: Arc<Vm>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle Ctrl-C")?;
    std::thread::spawn(move || {
        let mut pressed = false;
        for _ in &mut signals {
            if !pressed && vm.press_power_button().is_ok() {
                eprintln!("powering the node off; Ctrl-C again pulls the plug");
            } else {
                vm.kill();
            }
            pressed = true;
        }
    });
    Ok(())
}

/// Prints what a person needs to use the node.
fn say_ready(vm: &Vm, ready: &Ready, accelerator: Accelerator) {
    let seconds = vm.started().elapsed().as_secs_f64();
    println!(
        "\n{} is ready, {seconds:.1} s after power-on ({accelerator:?}).\n",
        ready.name
    );
    match instructions(vm, ready) {
        Ok(text) => println!("{text}"),
        Err(error) => println!("  but this host cannot use it: {error:#}\n"),
    }
}

fn instructions(vm: &Vm, ready: &Ready) -> Result<String> {
    let client = NodeClient::connect(vm, ready)?;
    let ca = save_ca(&client)?;
    let (https, http) = (vm.port(HTTPS_PORT)?, vm.port(HTTP_PORT)?);
    let model = ready.model.as_deref().unwrap_or("mnemos-selftest");
    let (ca, token, fingerprint) = (ca.display(), &ready.token, &client.ca().fingerprint);
    Ok(format!(
        "  page and API  https://127.0.0.1:{https}/\n  \
           token         {token}  (for this boot)\n  \
           CA            {ca}\n                \
           fetched from http://127.0.0.1:{http}/ca.crt; the node's console shows the same fingerprint:\n                \
           {fingerprint}\n\n\
         curl --cacert {ca} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n     \
         -d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{CHECK_PROMPT}\"}}]}}' \\\n     \
         https://127.0.0.1:{https}/v1/chat/completions\n"
    ))
}

fn save_ca(client: &NodeClient) -> Result<PathBuf> {
    let path = Cache::open()?.dir("node")?.join("ca.crt");
    fs::write(&path, &client.ca().pem)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
