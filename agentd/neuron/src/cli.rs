//! The command line.

use std::{num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use crate::budget::Deadlines;

/// Printed after a usage error.
pub const USAGE: &str = "\
usage: mnemos-neuron --instance NAME --model-dir DIR --socket PATH [--threads N] [--waiting N]
                     [--first-token-ms N] [--next-token-ms N]
       mnemos-neuron bench --model-dir DIR --prompt-tokens N --decode-tokens N [--threads N]";

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve a model on a socket.
    Serve(Serve),
    /// Measure prefill and decode speed and print them as JSON.
    Bench(Bench),
}

/// Options of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// Instance of the unit; appears in the log.
    pub instance: String,
    /// Holds `model.gguf` and `model.json`.
    pub model_dir: PathBuf,
    /// Where to listen.
    pub socket: PathBuf,
    /// Threads for matrix products; default: physical cores.
    pub threads: Option<NonZeroUsize>,
    /// Requests that may wait for the one that runs.
    pub waiting: u32,
    /// When the engine counts as hung.
    pub deadlines: Deadlines,
}

/// Options of the measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// Holds `model.gguf` and `model.json`.
    pub model_dir: PathBuf,
    /// Threads for matrix products; default: physical cores.
    pub threads: Option<NonZeroUsize>,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Length of the answer.
    pub decode_tokens: u32,
}

/// Why the arguments are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// An option that this command does not have.
    #[error("unknown argument {0}")]
    Unknown(String),
    /// An option that must be given.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An option without, or with an unreadable, value.
    #[error("{option} needs a value{}", value.as_ref().map(|v| format!(", not {v}")).unwrap_or_default())]
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: Option<String>,
    },
}

impl Command {
    /// Threads asked for.
    pub fn threads(&self) -> Option<NonZeroUsize> {
        match self {
            Self::Serve(serve) => serve.threads,
            Self::Bench(bench) => bench.threads,
        }
    }
}

/// Reads the arguments after the program name.
///
/// # Errors
/// [`UsageError`], to be printed with [`USAGE`].
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let mut options = Options {
        arguments: arguments.into_iter().collect(),
    };
    let command = if options
        .arguments
        .first()
        .is_some_and(|first| first == "bench")
    {
        options.arguments.remove(0);
        Command::Bench(bench(&mut options)?)
    } else {
        Command::Serve(serve(&mut options)?)
    };
    match options.arguments.into_iter().next() {
        Some(unknown) => Err(UsageError::Unknown(unknown)),
        None => Ok(command),
    }
}

fn serve(options: &mut Options) -> Result<Serve, UsageError> {
    let mut deadlines = Deadlines::default();
    if let Some(ms) = options.optional("--first-token-ms")? {
        deadlines.first_token = Duration::from_millis(ms);
        deadlines.per_prompt_token = Duration::ZERO;
    }
    if let Some(ms) = options.optional("--next-token-ms")? {
        deadlines.next_token = Duration::from_millis(ms);
    }
    Ok(Serve {
        instance: options.required("--instance")?,
        model_dir: options.required("--model-dir")?,
        socket: options.required("--socket")?,
        threads: options.optional("--threads")?,
        waiting: options.optional("--waiting")?.unwrap_or(16),
        deadlines,
    })
}

fn bench(options: &mut Options) -> Result<Bench, UsageError> {
    Ok(Bench {
        model_dir: options.required("--model-dir")?,
        threads: options.optional("--threads")?,
        prompt_tokens: options.required("--prompt-tokens")?,
        decode_tokens: options.required("--decode-tokens")?,
    })
}

/// The arguments nobody has asked for yet.
struct Options {
    arguments: Vec<String>,
}

impl Options {
    fn required<T: FromStr>(&mut self, option: &'static str) -> Result<T, UsageError> {
        self.optional(option)?.ok_or(UsageError::Missing(option))
    }

    fn optional<T: FromStr>(&mut self, option: &'static str) -> Result<Option<T>, UsageError> {
        let Some(at) = self
            .arguments
            .iter()
            .position(|argument| argument == option)
        else {
            return Ok(None);
        };
        self.arguments.remove(at);
        if at >= self.arguments.len() {
            return Err(UsageError::Value {
                option,
                value: None,
            });
        }
        let value = self.arguments.remove(at);
        value.parse().map(Some).map_err(|_| UsageError::Value {
            option,
            value: Some(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_units_command_line_is_understood() {
        let command = read("--instance selftest --model-dir /m --socket /s --threads 2").unwrap();
        let Command::Serve(serve) = command else {
            panic!("not serve")
        };
        assert_eq!((serve.instance.as_str(), serve.waiting), ("selftest", 16));
        assert_eq!(serve.threads, NonZeroUsize::new(2));
        assert_eq!(serve.deadlines, Deadlines::default());
    }

    #[test]
    fn bench_is_understood() {
        let command = read("bench --model-dir /m --prompt-tokens 28 --decode-tokens 64").unwrap();
        let Command::Bench(bench) = command else {
            panic!("not bench")
        };
        assert_eq!((bench.prompt_tokens, bench.decode_tokens), (28, 64));
    }

    #[test]
    fn errors_name_the_option() {
        let error = |line| read(line).unwrap_err().to_string();
        assert_eq!(error("--instance a --model-dir /m"), "--socket is missing");
        assert_eq!(
            error("--instance a --model-dir /m --socket"),
            "--socket needs a value"
        );
        assert_eq!(
            error("--instance a --model-dir /m --socket /s --threads 0"),
            "--threads needs a value, not 0"
        );
        assert_eq!(
            error("--instance a --model-dir /m --socket /s now"),
            "unknown argument now"
        );
    }
}
