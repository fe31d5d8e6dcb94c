//! The one place on the build side that starts processes.

use crate::progress::Step;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

/// Lines of a failed command that its error repeats.
const TAIL_LINES: usize = 30;

/// A command that inherits nothing it should not: the caller adds arguments, then runs it.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place on the build side that starts processes"
)]
pub fn new(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs to the end, showing the last line of output as progress.
///
/// # Errors
/// When the program cannot start or exits non-zero; the error ends with its last lines of output.
pub fn run(step: &Step, command: Command) -> Result<()> {
    let shown = describe(&command);
    let mut command = command;
    let (reader, writer) = std::io::pipe().context("pipe for the output of a command")?;
    command
        .stdout(writer.try_clone().context("share a pipe")?)
        .stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    drop(command); // It holds the writing ends; the reader sees the end only without them.
    let mut tail: VecDeque<String> = VecDeque::with_capacity(TAIL_LINES);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {shown}"))?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        step.note(&line);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    if !status.success() {
        let tail = Vec::from(tail).join("\n    ");
        bail!("{shown}: {status}; its last lines:\n    {tail}");
    }
    Ok(())
}

/// Runs to the end and returns standard output. Standard error goes into the error message.
///
/// # Errors
/// When the program cannot start or exits non-zero.
pub fn output(mut command: Command) -> Result<Vec<u8>> {
    let shown = describe(&command);
    let output = command.output().with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}; it said: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

/// Like [`output`], with `input` on standard input.
///
/// # Errors
/// As [`output`].
pub fn output_with_input(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
    let shown = describe(&command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    let stdin = child.stdin.take();
    let mut stdout = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let writer =
            scope.spawn(move || stdin.map(|mut pipe| std::io::Write::write_all(&mut pipe, input)));
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_end(&mut stdout)
                .with_context(|| format!("read the output of {shown}"))?;
        }
        match writer.join() {
            Ok(Some(written)) => written.with_context(|| format!("write the input of {shown}")),
            Ok(None) | Err(_) => bail!("{shown}: its input could not be written"),
        }
    })?;
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(stdout)
}

/// The command line as a person would type it, shortened.
fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    let line = words.join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("`{} …`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress;

    #[test]
    fn failure_repeats_what_the_program_said() {
        let mut command = new("sh");
        command.args(["-c", "echo first; echo why >&2; exit 3"]);
        let error = progress::step("failing on purpose", |step| run(step, command)).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("exit status: 3") && text.contains("why"),
            "{text}"
        );
    }

    #[test]
    fn input_larger_than_a_pipe_passes_through() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(output_with_input(new("cat"), &input).unwrap(), input);
    }
}
