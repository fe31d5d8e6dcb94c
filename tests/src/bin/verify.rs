//! `cargo verify`: every test, from formatting to a node booted from its ISO. Stops at the first failure.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mnemos_image::progress::{self, Step};
use mnemos_image::{Builder, Cache, checkout, cmd, source_date_epoch};
use mnemos_tests::tally::Tally;

const HELP: &str = "\
cargo verify          every test but the long ones: formatting, lints, unit tests, image, booted ISO
cargo verify --long   all of them: also every combination of firmware and medium
  MNEMOS_CACHE   folder for build output (default ~/.cache/mnemos)
";
/// Lines of a failed step that are printed; its log has the rest.
const TAIL_LINES: usize = 100;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let long = match words[..] {
        [] => false,
        ["--long"] => true,
        ["--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "error: {:?} is not an option of cargo verify; there is --long",
                words.join(" ")
            );
            return ExitCode::from(2);
        }
    };
    let outcome = Verify::new().and_then(|mut verify| {
        let outcome = verify.everything(long);
        verify.summarize(outcome.is_ok());
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where things are, and what has run so far.
struct Verify {
    checkout: PathBuf,
    cache: Cache,
    logs: PathBuf,
    steps: Vec<(String, Duration, Tally)>,
}

impl Verify {
    fn new() -> Result<Self> {
        let cache = Cache::open()?;
        let logs = cache.dir("verify")?;
        Ok(Self {
            checkout: checkout()?,
            cache,
            logs,
            steps: Vec::new(),
        })
    }

    fn everything(&mut self, long: bool) -> Result<()> {
        self.format()?;
        self.lints_and_unit_tests()?;
        self.timed("build image and ISO", |_| {
            let artifacts = mnemos_image::build()?;
            mnemos_iso::build(&artifacts)?;
            Ok(Tally::default())
        })?;
        self.engine()?;
        let mut system = self.cargo("test");
        system.args([
            "--release",
            "--package",
            "mnemos-tests",
            "--features",
            "vm",
            "--test",
            "system",
            "--",
        ]);
        system.args(long.then_some("--long"));
        self.command("system tests", system)
    }

    fn format(&mut self) -> Result<()> {
        let mut workspace = self.cargo("fmt");
        workspace.args(["--all", "--check"]);
        self.command("formatting", workspace)?;
        let mut engine = self.cargo("fmt");
        engine
            .args(["--check"])
            .current_dir(self.checkout.join("agentd/neuron"));
        self.command("formatting of the engine", engine)
    }

    fn lints_and_unit_tests(&mut self) -> Result<()> {
        let mut clippy = self.cargo("clippy");
        clippy.args([
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]);
        self.command("lints", clippy)?;
        let mut test = self.cargo("test");
        test.args(["--locked", "--workspace"]);
        self.command("unit tests", test)
    }

    /// In the builder root, next to what the image was built from, so that dependencies are compiled once.
    fn engine(&mut self) -> Result<()> {
        let epoch = source_date_epoch(&self.checkout)?;
        let builder = Builder::prepare(&self.cache, &self.checkout, epoch)?;
        let command = |words: &[&str]| {
            let mut cargo = builder.cargo("/src/agentd/neuron", words[0], "/target/neuron");
            cargo.args(&words[1..]);
            cargo
        };
        self.command("unit tests of the engine", command(&["test"]))?;
        self.command(
            "lints of the engine",
            command(&["clippy", "--all-targets", "--", "-D", "warnings"]),
        )
    }

    /// Cargo on the host, with one target folder for all of this, outside the checkout.
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = cmd::new("cargo");
        cargo.arg(command).current_dir(&self.checkout);
        // What cargo told this program about itself would look like a change to build scripts.
        let told = |name: &str| {
            [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_CRATE_",
                "CARGO_BIN_",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
            cargo.env_remove(name);
        }
        if let Ok(target) = self.cache.dir("target/host") {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        cargo
    }

    fn command(&mut self, name: &str, command: Command) -> Result<()> {
        let log = self.logs.join(format!("{}.log", name.replace(' ', "-")));
        self.timed(name, |step| run(step, command, &log))
    }

    fn timed(&mut self, name: &str, work: impl FnOnce(&Step) -> Result<Tally>) -> Result<()> {
        let started = Instant::now();
        let outcome = progress::step(name, work);
        let failed = Tally {
            passed: 0,
            failed: 1,
        };
        self.steps.push((
            name.to_owned(),
            started.elapsed(),
            *outcome.as_ref().unwrap_or(&failed),
        ));
        outcome.map(drop)
    }

    fn summarize(&self, good: bool) {
        let mut sum = Tally::default();
        let mut total = Duration::ZERO;
        println!("\n{:<30} {:>9}  tests", "step", "seconds");
        for (name, elapsed, tally) in &self.steps {
            println!("{name:<30} {:>9.1}  {tally}", elapsed.as_secs_f64());
            sum += *tally;
            total += *elapsed;
        }
        println!("{:<30} {:>9.1}", "all", total.as_secs_f64());
        debug_assert!(good == (sum.failed == 0));
        println!("{sum}");
    }
}

/// Runs to the end with its output in `log`; a step without test summaries counts as one test.
fn run(step: &Step, mut command: Command, log: &Path) -> Result<Tally> {
    let (reader, writer) = std::io::pipe().context("pipe for the output of a step")?;
    command
        .stdout(writer.try_clone().context("share a pipe")?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    drop(command); // It holds the writing ends of the pipe.
    let mut log_file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut lines: Vec<String> = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        step.note(&line);
        writeln!(log_file, "{line}").with_context(|| format!("write {}", log.display()))?;
        lines.push(line);
    }
    let mut tally = Tally::default();
    lines
        .iter()
        .filter_map(|line| Tally::parse(line))
        .for_each(|counted| tally += counted);
    let status = child.wait()?;
    if status.success() && tally.failed == 0 {
        return Ok(if tally.passed == 0 {
            Tally {
                passed: 1,
                failed: 0,
            }
        } else {
            tally
        });
    }
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n    ");
    bail!(
        "{status}, {tally}; all of it is in {}; its last lines:\n    {tail}",
        log.display()
    )
}
