//! All routes of the TLS port and of the plain port, and what every answer has in common.

mod auth;
mod health;
mod metrics;
mod plain;
mod power;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use mnemos_relay::{Relay, method_not_allowed, not_found};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::node::Node;

pub(crate) use plain::plain;

/// Largest body of an administrative request.
const ADMIN_BODY_BYTES: usize = 64 * 1024;
/// Longest wait for a root operation.
const HOSTD_DEADLINE: Duration = Duration::from_secs(10);

/// The TLS port: page and health for everybody, the rest behind the token.
pub(crate) fn secure(node: Arc<Node>) -> Router {
    let catalog = node.registry.clone();
    let limits = node.config.limits.relay.clone();
    let relay = Arc::new(Relay::new(catalog, node.metrics.clone(), limits));
    let closed = Router::new()
        .merge(mnemos_relay::router(relay))
        .merge(status::router(node.clone()))
        .merge(power::router(node.clone()))
        .merge(metrics::router(node.clone()))
        .layer(from_fn_with_state(node.clone(), auth::require_token));
    Router::new()
        .merge(closed)
        .merge(health::router(node.clone()))
        .merge(mnemos_page::router())
        .merge(plain::certificate(node.clone()))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(node, finish))
}

/// Counts the answer and adds what every answer should say.
async fn finish(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let method = method_label(request.method());
    let has_body = !axum::body::HttpBody::is_end_stream(request.body());
    let mut response = next.run(request).await;
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    node.metrics
        .count_response(route, method, response.status().as_u16());
    let unread = has_body && matches!(response.status().as_u16(), 401 | 404 | 405 | 429);
    let headers = response.headers_mut();
    if unread {
        // A refusal that left the body unread ends the connection; a client must not send another
        // request into it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A label of bounded variety: a client may send any method it likes.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The clock, as RFC 3339 in UTC with seconds.
pub(crate) fn now_rfc3339() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}
