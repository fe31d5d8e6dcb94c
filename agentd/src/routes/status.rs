//! `/api/v1/status`: the node as the page shows it.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mnemos_relay::method_not_allowed;

use super::now_rfc3339;
use crate::node::Node;
use crate::status::{self, Status};

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/api/v1/status", get(show_status))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(node)
}

/// 200.
async fn show_status(State(node): State<Arc<Node>>) -> Json<Status> {
    Json(status::of(&node, now_rfc3339()))
}
