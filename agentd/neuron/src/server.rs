//! Loads the model, proves it with one token, listens until a fault or a signal ends it.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use mnemos_engine_protocol::{Info, Sampling};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};

use crate::{
    budget::Deadlines,
    cli::Serve,
    connection::{self, Shared},
    engine::{self, Engine, LoadError},
    fault::{Fault, Faults},
    generation::Output,
    log,
    model_dir::{ModelDir, ModelDirError},
    notify,
    slots::Slots,
};

/// Connections at a time: those that run and wait, some that ask for `Info`, some slow readers.
const MAX_CONNECTIONS: usize = 128;
/// How long the last answers may take to leave when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Greedy decoding.
pub const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_p: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
};

/// Why the worker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model directory is not in order.
    #[error(transparent)]
    ModelDir(#[from] ModelDirError),
    /// The engine did not load it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The loaded model gives no token.
    #[error("the model gives no token: {0}")]
    WarmUp(String),
    /// The socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel or the runtime refused something basic.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// A model that has given its first token.
pub struct Loaded {
    /// The engine.
    pub engine: Engine,
    /// What was loaded.
    pub dir: ModelDir,
}

/// Loads a model and generates one token. Tells PID 1 what it is doing.
///
/// # Errors
/// [`StartError`].
pub fn load(model_dir: &Path, runtime: &tokio::runtime::Runtime) -> Result<Loaded, StartError> {
    notify::status("checking the model file");
    let dir = ModelDir::open(model_dir)?;
    let mib = dir.file_bytes >> 20;
    notify::status(&format!(
        "reading weights of {} ({mib} MiB)",
        dir.description.name
    ));
    let engine = Engine::load(&dir)?;
    notify::status("generating a first token");
    runtime.block_on(warm_up(&engine, &dir))?;
    Ok(Loaded { engine, dir })
}

async fn warm_up(engine: &Engine, dir: &ModelDir) -> Result<(), StartError> {
    let failed = |reason: &str| StartError::WarmUp(reason.to_owned());
    let prompt = vec![dir.header.eos_token];
    let generation = engine.generate(prompt, GREEDY, 1).await;
    let mut generation = generation.map_err(|_| failed("the engine is gone"))?;
    let deadline = Deadlines::default().first(1);
    loop {
        match timeout(deadline, generation.next()).await {
            Ok(Some(Output::Token(_))) => {}
            Ok(Some(Output::Text { end: Some(_), .. })) => break,
            Ok(Some(Output::Text { end: None, .. })) => {}
            Ok(Some(Output::Refused(reason) | Output::Failed(reason))) => {
                return Err(failed(&reason));
            }
            Ok(None) => return Err(failed("the engine dropped the request")),
            Err(_) => return Err(failed("the engine took too long")),
        }
    }
    Ok(())
}

/// Serves until the process has a reason to end, which it returns.
///
/// # Errors
/// [`StartError`], before it says READY.
pub fn run(
    options: &Serve,
    threads: u32,
    started: Instant,
    faults: Faults,
) -> Result<Fault, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // The socket needs little; the engine has its own threads.
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let Loaded { engine, dir } = load(&options.model_dir, &runtime)?;
    let info = Info {
        model: dir.description.name.clone(),
        self_test: dir.description.self_test,
        context_tokens: dir.description.context_tokens,
        engine: engine::NAME.to_owned(),
        model_bytes: dir.file_bytes,
        load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        running: 0,
        waiting: 0,
        threads,
    };
    log::info(&format!(
        "loaded instance={} model={} context_tokens={} load_ms={} threads={threads}",
        options.instance, info.model, info.context_tokens, info.load_ms
    ));
    let (slots, deadlines) = (Slots::new(options.waiting), options.deadlines);
    let shared = Arc::new(Shared {
        engine,
        slots,
        faults,
        deadlines,
        info,
    });
    let fault = runtime.block_on(listen(&options.socket, shared))?;
    // The engine may be in the middle of a step that nobody can interrupt.
    runtime.shutdown_background();
    Ok(fault)
}

async fn listen(path: &Path, shared: Arc<Shared>) -> Result<Fault, StartError> {
    let listen_error = |source| StartError::Listen {
        path: path.to_owned(),
        source,
    };
    let listener = bind(path).map_err(listen_error)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    notify::status(&format!("serving {}", shared.info.model));
    notify::ready();
    let mut connections = JoinSet::new();
    let fault = loop {
        tokio::select! {
            fault = shared.faults.wait() => break fault,
            _ = terminate.recv() => shared.faults.raise(Fault::Stopped),
            _ = interrupt.recv() => shared.faults.raise(Fault::Stopped),
            Some(_) = connections.join_next() => {} // A panic in it has become a fault.
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                accept(accepted.map(|(stream, _)| stream), &shared, &mut connections).await;
            }
        }
    };
    notify::stopping();
    drop(listener);
    let _ = fs::remove_file(path); // A stale socket is removed by the next start as well.
    let all_answered = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(FAREWELL, all_answered).await; // Who is not done by then will not be.
    Ok(fault)
}

async fn accept(
    accepted: io::Result<UnixStream>,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    match accepted {
        Ok(stream) => {
            connections.spawn(connection::serve(stream, shared.clone()));
        }
        Err(error) => {
            // Out of descriptors, most likely: one of the connections has to end first.
            log::warning(&format!("cannot accept a connection: {error}"));
            connections.join_next().await;
        }
    }
}

/// A socket that the owner and its group may use, in place of one that a killed process left.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
