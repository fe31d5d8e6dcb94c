//! The command line of `cargo node`.

use std::fmt;
use std::path::PathBuf;

use mnemos_qemu::machine::{
    Display, Firmware, Forward, HTTP_PORT, HTTPS_PORT, Media, ValueError, parse_cpus,
    parse_disk_bytes, parse_memory_mib,
};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
cargo node [OPTIONS]          build what is missing, boot a node in QEMU, print its address and token
cargo node --check [OPTIONS]  the same, then one chat completion over TLS, power off, exit 0 or 1
cargo node bench [OPTIONS]    measure sizes, boot, memory and speed; print a table and write it as JSON

  --memory MIB        memory of the machine (default 2048)
  --cpus N            virtual processors (default 2)
  --disk SIZE         attach an empty disk, for example 8G; gone when the node ends; repeatable
  --firmware WHICH    bios (default) or uefi
  --media WHICH       cd (default) or usb: the ISO; kernel: kernel and initramfs without a medium
  --forward HOST:GUEST  another TCP port on 127.0.0.1 that leads to the node; repeatable
  --display           open a window with the node's screen
  --headless          no window, the serial console's lines here (default)
  --out FILE          bench: where to write the JSON (default bench.json in the build cache)
  --no-peers          bench: measure only the node, not the reference image nor llama.cpp
  --help              this text

Ctrl-C presses the node's power button; a second Ctrl-C pulls the plug.
Build output is kept in $MNEMOS_CACHE, by default ~/.cache/mnemos.
";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Print the help text.
    Help,
    /// Boot a node for a person.
    Run,
    /// Boot a node, have it answer once, power it off.
    Check,
    /// Measure.
    Bench,
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) task: Task,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) disks_bytes: Vec<u64>,
    pub(crate) firmware: Firmware,
    pub(crate) media: Media,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) display: Display,
    pub(crate) out: Option<PathBuf>,
    pub(crate) peers: bool,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OptionsError {
    /// No such option.
    Unknown(String),
    /// The option needs a value.
    NoValue(&'static str),
    /// The option does not take this value.
    Value(&'static str, ValueError),
    /// Both would have to hold.
    Conflict(&'static str),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => {
                write!(
                    formatter,
                    "{word:?} is no option of cargo node; cargo node --help lists them"
                )
            }
            Self::NoValue(option) => {
                write!(formatter, "{option} needs a value; see cargo node --help")
            }
            Self::Value(option, error) => write!(formatter, "{option}: {error}"),
            Self::Conflict(sentence) => formatter.write_str(sentence),
        }
    }
}

impl std::error::Error for OptionsError {}

/// Parses the words after `cargo node`.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Options, OptionsError> {
    let mut options = Options {
        task: Task::Run,
        memory_mib: 2048,
        cpus: 2,
        disks_bytes: Vec::new(),
        firmware: Firmware::Bios,
        media: Media::Cd,
        forwards: Vec::new(),
        display: Display::Headless,
        out: None,
        peers: true,
    };
    let mut words = Words {
        words: words.into_iter(),
        inline: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" | "help" => options.task = Task::Help,
            "--check" => words.task(&mut options, Task::Check)?,
            "bench" => words.task(&mut options, Task::Bench)?,
            "--memory" => options.memory_mib = words.value("--memory", parse_memory_mib)?,
            "--cpus" => options.cpus = words.value("--cpus", parse_cpus)?,
            "--disk" => options
                .disks_bytes
                .push(words.value("--disk", parse_disk_bytes)?),
            "--firmware" => options.firmware = words.value("--firmware", str::parse)?,
            "--media" => options.media = words.value("--media", str::parse)?,
            "--forward" => options.forwards.push(words.value("--forward", str::parse)?),
            "--display" => options.display = Display::Gtk,
            "--headless" => options.display = Display::Headless,
            "--out" => options.out = Some(words.value("--out", |path| Ok(PathBuf::from(path)))?),
            "--no-peers" => options.peers = false,
            _ => return Err(OptionsError::Unknown(word)),
        }
        if let Some(value) = words.inline.take() {
            return Err(OptionsError::Unknown(format!("{word}={value}")));
        }
    }
    check(&options)?;
    Ok(options)
}

fn check(options: &Options) -> Result<(), OptionsError> {
    let bench_only = options.out.is_some() || !options.peers;
    if bench_only && !matches!(options.task, Task::Bench | Task::Help) {
        return Err(OptionsError::Conflict(
            "--out and --no-peers belong to cargo node bench; leave them out",
        ));
    }
    let mut hosts: Vec<u16> = options
        .forwards
        .iter()
        .map(|forward| forward.host)
        .filter(|port| *port != 0)
        .collect();
    hosts.sort_unstable();
    if hosts.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(OptionsError::Conflict(
            "--forward: one host port leads to two guest ports; give each its own",
        ));
    }
    Ok(())
}

/// All forwards: those asked for, and free ports for the page and the CA where none was.
pub(crate) fn all_forwards(asked: &[Forward]) -> Vec<Forward> {
    let mut forwards = asked.to_vec();
    for guest in [HTTPS_PORT, HTTP_PORT] {
        if !asked.iter().any(|forward| forward.guest == guest) {
            forwards.push(Forward::to(guest));
        }
    }
    forwards
}

/// Words of the command line, with `--option=value` taken apart.
struct Words<I> {
    words: I,
    inline: Option<String>,
}

impl<I: Iterator<Item = String>> Words<I> {
    fn next(&mut self) -> Option<String> {
        let word = self.words.next()?;
        match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => {
                self.inline = Some(value.to_owned());
                Some(option.to_owned())
            }
            _ => Some(word),
        }
    }

    fn value<T>(
        &mut self,
        option: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<T, OptionsError> {
        let inline = self.inline.take();
        let value = inline
            .or_else(|| self.words.next())
            .ok_or(OptionsError::NoValue(option))?;
        parse(&value).map_err(|error| OptionsError::Value(option, error))
    }

    fn task(&mut self, options: &mut Options, task: Task) -> Result<(), OptionsError> {
        match options.task {
            Task::Run | Task::Help => options.task = task,
            same if same == task => {}
            _ => {
                return Err(OptionsError::Conflict(
                    "--check and bench exclude each other; give one",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Options, OptionsError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_at_once() {
        let options = parse_line(
            "--check --memory 4096 --cpus=4 --disk 8G --disk=1T --firmware uefi --media usb --forward 9000:9000 --display",
        )
        .unwrap();
        assert_eq!(options.task, Task::Check);
        assert_eq!((options.memory_mib, options.cpus), (4096, 4));
        assert_eq!(options.disks_bytes, [8 << 30, 1 << 40]);
        assert_eq!(
            (options.firmware, options.media),
            (Firmware::Uefi, Media::Usb)
        );
        assert_eq!(options.display, Display::Gtk);
    }

    #[test]
    fn refusals_name_option_value_and_remedy() {
        for (line, parts) in [
            ("--memory 2G", ["--memory", "\"2G\"", "2048"]),
            ("--firmware=efi", ["--firmware", "\"efi\"", "bios or uefi"]),
            ("--media", ["--media", "needs a value", "--help"]),
            ("--nothing", ["\"--nothing\"", "no option", "--help"]),
            ("--check=yes", ["--check=yes", "no option", "--help"]),
            ("--out x", ["--out", "bench", "leave them out"]),
            ("bench --check", ["--check", "bench", "give one"]),
            (
                "--forward 1:2 --forward 1:3",
                ["--forward", "one host port", "its own"],
            ),
        ] {
            let message = parse_line(line).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{line}: {message}");
            }
        }
    }

    #[test]
    fn page_and_ca_are_always_reachable() {
        let asked = [Forward {
            host: 8443,
            guest: 443,
        }];
        assert_eq!(all_forwards(&asked), [asked[0], Forward::to(80)]);
        assert_eq!(all_forwards(&[]).len(), 2);
    }
}
