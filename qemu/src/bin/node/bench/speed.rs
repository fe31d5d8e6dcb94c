//! The engine next to llama.cpp: the same file, tokens and threads, one after the other on an idle host.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use mnemos_image::{Bind, Builder, Cache, checkout, cmd, progress, source_date_epoch};
use serde_json::Value;

use super::python;
use super::report::Speed;

/// Prompt and answer, in tokens: a question, and a page to read.
const LENGTHS: [(u32, u32); 2] = [(28, 64), (512, 64)];
const MODEL: &str = "random-llama-0.3b-q8_0";

/// Makes the model once and measures both engines on it.
pub(super) fn measure(cache: &Cache, threads: u32) -> Result<Vec<Speed>> {
    let python = python::environment(cache)?;
    let folder = checkout()?.join("qemu/bench");
    let model = cache.dir("bench")?.join(MODEL);
    if !model.join("model.json").is_file() {
        progress::step("make the model for speed measurements", |step| {
            let mut make = cmd::new(&python);
            make.arg(folder.join("speed_model.py")).arg(&model);
            cmd::run(step, make)
        })?;
    }
    let compare = |(prompt, decode): (u32, u32)| {
        let name = format!("measure {prompt} + {decode} tokens");
        progress::step(&name, |_| {
            Ok(Speed {
                model: MODEL.to_owned(),
                node: json(engine(cache, &model, threads, prompt, decode)?)?,
                llama_cpp: json(llama_cpp(
                    &python,
                    &folder,
                    &model,
                    [threads, prompt, decode],
                ))?,
            })
        })
    };
    LENGTHS.into_iter().map(compare).collect()
}

/// The engine as it ships, in the root it was compiled in.
fn engine(cache: &Cache, model: &Path, threads: u32, prompt: u32, decode: u32) -> Result<Command> {
    let checkout = checkout()?;
    let builder = Builder::prepare(cache, &checkout, source_date_epoch(&checkout)?)?;
    let bind = [Bind {
        host: model,
        inside: "/work",
        writable: false,
    }];
    let mut engine = builder.command("/work", &bind, "/target/neuron/release/mnemos-neuron");
    engine.args(["bench", "--model-dir", "/work"]);
    for (option, number) in [
        ("--threads", threads),
        ("--prompt-tokens", prompt),
        ("--decode-tokens", decode),
    ] {
        engine.args([option, &number.to_string()]);
    }
    Ok(engine)
}

fn llama_cpp(python: &Path, folder: &Path, model: &Path, numbers: [u32; 3]) -> Command {
    let mut command = cmd::new(python);
    command
        .arg(folder.join("llama_cpp_speed.py"))
        .arg(model.join("model.gguf"));
    command.args(numbers.map(|number| number.to_string()));
    command
}

/// The last line of standard output, as JSON.
fn json(command: Command) -> Result<Value> {
    let output = String::from_utf8(cmd::output(command)?).context("output is not text")?;
    let line = output
        .lines()
        .rfind(|line| line.starts_with('{'))
        .unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("no measurement in {output:?}"))
}
