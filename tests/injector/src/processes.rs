//! The node's processes, from `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::start::PROC;

/// User processes without this one: kernel threads have no command line.
pub(crate) fn list() -> io::Result<Vec<Value>> {
    Ok(all()?
        .into_iter()
        .map(|(pid, name)| json!({ "pid": pid, "name": name }))
        .collect())
}

/// Kills every process whose program is called `name` and returns their ids.
pub(crate) fn kill(name: &str) -> io::Result<Vec<i32>> {
    let mut killed = Vec::new();
    for (number, _) in all()?.into_iter().filter(|(_, program)| program == name) {
        if let Some(pid) = Pid::from_raw(number) {
            kill_process(pid, Signal::KILL)?;
            killed.push(number);
        }
    }
    Ok(killed)
}

fn all() -> io::Result<Vec<(i32, String)>> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = Vec::new();
    for entry in fs::read_dir(PROC)? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // It may have ended since the folder was read.
        let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(name) = program_name(&command_line).filter(|_| pid != own) {
            found.push((pid, name));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The last part of the program's path; `None` for kernel threads.
fn program_name(command_line: &[u8]) -> Option<String> {
    let program = command_line.split(|byte| *byte == 0).next()?;
    let program = String::from_utf8_lossy(program);
    // Some programs rewrite their command line: `name: what it does`.
    let program = program.split([' ', ':']).next()?;
    let name = Path::new(program).file_name()?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn names() {
        let neuron = b"/usr/lib/mnemos/mnemos-neuron\0--instance\0selftest\0";
        assert_eq!(program_name(neuron).as_deref(), Some("mnemos-neuron"));
        assert_eq!(program_name(b"/init\0").as_deref(), Some("init"));
        assert_eq!(program_name(b""), None);
    }
}
