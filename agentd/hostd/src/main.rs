//! `mnemos-hostd`: listens on its socket and serves the agent. See the library for the design.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use mnemos_hostd::{chain, protocol::SOCKET_PATH, server, socket};
use rustix::process::Pid;
use sd_notify::NotifyState;

/// A local peer sends its request at once.
const PEER_DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let agent_uid = socket::account_id(Path::new("/etc/passwd"), socket::AGENT_ACCOUNT)?;
    let agent_gid = socket::account_id(Path::new("/etc/group"), socket::AGENT_ACCOUNT)?;
    let listener = socket::listen(Path::new(SOCKET_PATH), agent_gid)?;
    let config = server::Config {
        allowed_uids: vec![0, agent_uid],
        init: Pid::INIT,
        peer_deadline: PEER_DEADLINE,
    };
    sd_notify::notify(&[NotifyState::Ready])?;
    server::serve(&listener, &config)?;
    Ok(())
}
