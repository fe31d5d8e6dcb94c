//! The console's socket: the status with the token, for root and the console's user only. The peer's
//! user comes from the kernel, so the socket needs no secret.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, timeout};

use crate::node::Node;
use crate::routes::now_rfc3339;
use crate::status;

/// The console needs one connection; a second agent's test or a restart overlaps.
const MAX_CONNECTIONS: usize = 8;
/// Longest life of a connection.
const DEADLINE: Duration = Duration::from_secs(30);
const ROOT_UID: u32 = 0;

/// Why there is no local socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}", path.display())]
pub struct LocalError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Listens at `path`, in place of what an earlier agent left there.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, LocalError> {
    let open = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        // Anybody may connect; whom we answer is decided by the peer's user.
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(listener)
    };
    open().map_err(|source| LocalError {
        path: path.to_owned(),
        source,
    })
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, node: Arc<Node>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut pause = interval(Duration::from_millis(100));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a local connection: {error}");
                pause.tick().await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            continue;
        };
        if !is_peer_allowed(&stream, node.config.console_uid) {
            continue;
        }
        let service = TowerToHyperService::new(router(node.clone()));
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            // Neither a console that broke off nor one that lingers matters here.
            let _ = timeout(DEADLINE, connection).await;
            drop(slot);
        });
    }
}

fn is_peer_allowed(stream: &UnixStream, console_uid: u32) -> bool {
    match stream.peer_cred() {
        Ok(peer) if is_allowed(peer.uid(), console_uid) => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "local socket refused");
            false
        }
        Err(error) => {
            tracing::warn!("cannot tell who connects locally: {error}");
            false
        }
    }
}

fn is_allowed(uid: u32, console_uid: u32) -> bool {
    uid == ROOT_UID || uid == console_uid
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/status", get(show_status))
        .with_state(node)
}

/// The status as in `/api/v1/status`, and the token.
async fn show_status(State(node): State<Arc<Node>>) -> Json<Value> {
    let mut status = json!(status::of(&node, now_rfc3339()));
    status["token"] = node.token.reveal().into();
    Json(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_console_get_the_token() {
        assert!(is_allowed(0, 902));
        assert!(is_allowed(902, 902));
        for stranger in [900, 901, 65534] {
            assert!(!is_allowed(stranger, 902), "{stranger}");
        }
    }
}
