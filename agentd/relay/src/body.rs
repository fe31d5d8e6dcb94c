//! Reads a request body: bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::error::ApiError;

/// A body over the limit is read and thrown away up to this many times the limit, because a client
/// that is still writing when the connection closes never sees the refusal.
const DRAIN_FACTOR: usize = 8;

/// The body of `request`, which must be JSON by its own account or not say.
pub(crate) async fn read_json(
    request: Request<Body>,
    limit_bytes: usize,
    deadline: Duration,
) -> Result<Bytes, ApiError> {
    let is_json = is_json(request.headers());
    let body = timeout(deadline, read(request.into_body(), limit_bytes));
    let body = body.await.map_err(|_| ApiError::BodyTimeout)??;
    if is_json {
        Ok(body)
    } else {
        Err(ApiError::MediaType)
    }
}

async fn read(mut body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let mut kept = Vec::new();
    let mut seen = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::Json("the body ended early".to_owned()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if seen <= limit_bytes {
            kept.extend_from_slice(&data);
        } else if seen > limit_bytes.saturating_mul(DRAIN_FACTOR) {
            break;
        }
    }
    if seen > limit_bytes {
        return Err(ApiError::BodyTooLarge { limit_bytes });
    }
    Ok(kept.into())
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json")
}
