//! `/api/v1/power`: restart or power off, done by the root helper.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use mnemos_hostd::client;
use mnemos_hostd::protocol::{self, Actor, Operation};
use mnemos_relay::{ApiError, chain, method_not_allowed};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{ADMIN_BODY_BYTES, HOSTD_DEADLINE};
use crate::listen::Peer;
use crate::node::Node;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Power {
    action: Action,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Reboot,
    PowerOff,
}

impl From<Action> for Operation {
    fn from(action: Action) -> Operation {
        match action {
            Action::Reboot => Operation::Reboot,
            Action::PowerOff => Operation::PowerOff,
        }
    }
}

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/api/v1/power", post(change_power))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(node)
}

/// 202: it has begun. 400: the action. 503: the root helper did not do it.
async fn change_power(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body = timeout(
        HOSTD_DEADLINE,
        to_bytes(request.into_body(), ADMIN_BODY_BYTES),
    )
    .await;
    let body = body.map_err(|_| ApiError::BodyTimeout)?;
    let body = body.map_err(|_| ApiError::BodyTooLarge {
        limit_bytes: ADMIN_BODY_BYTES,
    })?;
    let power: Power = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("send {{\"action\": \"reboot\"}} or \"power_off\": {error}");
        ApiError::field("action", message)
    })?;
    let operation = Operation::from(power.action);
    let actor = Actor::try_from(format!("token holder at {}", peer.ip()))
        .map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let socket = node.config.hostd_socket.clone();
    let request = protocol::Request { operation, actor };
    let done = spawn_blocking(move || client::call(&socket, &request)).await;
    match done {
        Ok(Ok(())) => Ok((
            StatusCode::ACCEPTED,
            Json(json!({"action": operation.name()})),
        )),
        Ok(Err(error)) => {
            tracing::error!("{}", chain(&error));
            Err(ApiError::Unavailable(
                "the root helper did not do it; see the journal".to_owned(),
            ))
        }
        Err(_) => Err(ApiError::Unavailable(
            "the call to the root helper was lost".to_owned(),
        )),
    }
}
