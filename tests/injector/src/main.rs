//! A fault injector for tests: the node's image stays as it ships, and still a test can kill its processes.
//!
//! A second initramfs adds this program, `rdinit=` starts it as PID 1. It leaves a child behind and becomes
//! `/init`. The child keeps the initramfs as its root, in its own mount namespace with its own `/proc`, and
//! obeys one command per line on the second serial port; each is answered by one line of JSON:
//!
//! | command     | answer |
//! |-------------|--------|
//! | `kill NAME` | `{"killed":[PID, ...]}`, SIGKILL to every process whose program has this name |
//! | `processes` | `{"processes":[{"pid":1,"name":"init"}, ...]}`, user processes without this one |
//! | `listening` | `{"listening":[{"protocol":"tcp","address":"0.0.0.0","port":443}, ...]}` |

mod processes;
mod sockets;
mod start;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

fn main() {
    let result = match std::env::args().nth(1).as_deref() {
        Some(start::SERVE) => serve(),
        _ => start::leave_child_and_become_init(),
    };
    if let Err(error) = result {
        eprintln!("mnemos-injector: {error}");
        std::process::exit(1);
    }
}

fn serve() -> std::io::Result<()> {
    let mut port: File = start::own_view_and_serial_port()?;
    for line in BufReader::new(port.try_clone()?).lines() {
        let answer = answer(&line?);
        writeln!(port, "{answer}")?;
    }
    Ok(())
}

fn answer(command: &str) -> Value {
    let result = match command.trim().split_once(' ') {
        Some(("kill", name)) => processes::kill(name).map(|killed| json!({ "killed": killed })),
        None if command.trim() == "processes" => {
            processes::list().map(|list| json!({ "processes": list }))
        }
        None if command.trim() == "listening" => {
            sockets::listening().map(|list| json!({ "listening": list }))
        }
        _ => return json!({ "error": format!("unknown command {command:?}") }),
    };
    result.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}
