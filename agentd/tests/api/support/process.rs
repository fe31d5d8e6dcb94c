//! Processes that tests start.

#![expect(
    clippy::disallowed_methods,
    reason = "the one module of these tests that starts processes"
)]

use std::process::{Child, Command, ExitStatus, Stdio};

use super::DEADLINE;
use mnemos_agentd::Config;

/// A process that is killed when the test ends.
pub(crate) struct Process(Child);

impl Process {
    /// The agent's program with `config`, as PID 1 would start it.
    pub(crate) fn agent(config: &Config) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mnemos-agentd"));
        command.env_clear().stdin(Stdio::null());
        command.args(["--bind", &config.bind.to_string()]);
        command.args(["--https-port", &config.https_port.to_string()]);
        command.args(["--http-port", &config.http_port.to_string()]);
        command.args(["--name", config.name.as_deref().unwrap()]);
        command.args(["--console-uid", &config.console_uid.to_string()]);
        command.arg("--state-dir").arg(&config.state_dir);
        command.arg("--engines-dir").arg(&config.engines_dir);
        command.arg("--models-dir").arg(&config.models_dir);
        command.arg("--services").arg(&config.services_file);
        command.arg("--local-socket").arg(&config.local_socket);
        command.arg("--hostd-socket").arg(&config.hostd_socket);
        Process(command.spawn().unwrap())
    }

    /// A process that waits for a signal: the stand-in for PID 1.
    pub(crate) fn waiting() -> Process {
        let mut command = Command::new("/bin/sleep");
        Process(command.arg(DEADLINE.as_secs().to_string()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// How it ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
