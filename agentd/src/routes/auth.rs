//! The bearer token in front of everything that acts or tells.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use mnemos_relay::ApiError;

use crate::node::Node;

/// 401 unless the request carries the node's token.
pub(super) async fn require_token(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let offered = bearer(request.headers()).ok_or(ApiError::Unauthorized(
        "no token; send the header 'Authorization: Bearer <token>' with the token from the node's console",
    ))?;
    if !node.token.matches(offered) {
        return Err(ApiError::Unauthorized(
            "this is not the node's token; it is shown on the node's console and new after each boot",
        ));
    }
    Ok(next.run(request).await)
}

/// The credentials of the scheme `Bearer`, whose name is case-insensitive (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_bearer_credentials_are_read() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(read("Basic abc"), None);
        assert_eq!(read("abc"), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
