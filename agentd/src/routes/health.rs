//! `/livez` and `/readyz`: for load balancers and tests, without a token.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::now_rfc3339;
use crate::node::Node;
use crate::status;

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/livez", get(show_live))
        .route("/readyz", get(show_ready))
        .with_state(node)
}

/// 200 while the agent runs.
async fn show_live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// 200 after the self-test passed, otherwise 503 with what is missing.
async fn show_ready(State(node): State<Arc<Node>>) -> (StatusCode, Json<Value>) {
    let status = status::of(&node, now_rfc3339());
    let code = if status.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        code,
        Json(json!({"ready": status.ready, "missing": status.missing})),
    )
}
