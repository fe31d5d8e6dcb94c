//! `mnemos-agentd`: the node's daemon. Reads its arguments, starts the agent, ends on SIGTERM.

use std::process::ExitCode;

use mnemos_agentd::{Agent, Config, Limits, chain, journal};
use tokio::signal::unix::{SignalKind, signal};

/// Enough for a node whose work happens in engine processes.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    journal::install();
    let config = match Config::parse(std::env::args().skip(1), Limits::default()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let agent = Agent::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    agent.stop().await;
    Ok(())
}
