//! The plain port: the CA certificate for those who do not trust the node yet, and the way to TLS.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mnemos_relay::ApiError;

use crate::node::Node;

/// `/ca.crt`, and a redirect for everything else.
pub(crate) fn plain(node: Arc<Node>) -> Router {
    Router::new()
        .route("/ca.crt", get(show_ca))
        .fallback(redirect)
        .with_state(node)
}

/// `/ca.crt` on the TLS port too, for who came there by a forwarded port and past a warning.
pub(crate) fn certificate(node: Arc<Node>) -> Router {
    Router::new()
        .route("/ca.crt", get(show_ca))
        .with_state(node)
}

/// The certificate in PEM. Compare its SHA-256 with the console's before trusting it.
async fn show_ca(State(node): State<Arc<Node>>) -> Response {
    let file = format!("attachment; filename=\"{}-ca.crt\"", node.name);
    let headers = [
        (
            header::CONTENT_TYPE,
            "application/x-x509-ca-cert".to_owned(),
        ),
        (header::CONTENT_DISPOSITION, file),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, node.identity.authority().pem().to_owned()).into_response()
}

/// 308 to the same host and path over TLS. Only for reading: a client that posts here has already
/// sent its token in the clear and should learn so.
async fn redirect(State(node): State<Arc<Node>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message =
            "this port is not encrypted: use https, and consider the token you sent as known";
        return ApiError::field("url", message).into_response();
    }
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let location = host.and_then(|host| target(host, request.uri(), node.https_port));
    match location.and_then(|location| HeaderValue::try_from(location).ok()) {
        Some(location) => (
            StatusCode::PERMANENT_REDIRECT,
            [(header::LOCATION, location)],
        )
            .into_response(),
        None => ApiError::field("host", "the request has no usable Host header").into_response(),
    }
}

/// The URL over TLS for `uri` on `host`, which may carry the plain port.
fn target(host: &str, uri: &Uri, https_port: u16) -> Option<String> {
    let authority: axum::http::uri::Authority = host.parse().ok()?;
    let (name, path) = (
        authority.host(),
        uri.path_and_query().map_or("/", |path| path.as_str()),
    );
    if name.is_empty() || host.contains('@') {
        return None;
    }
    match https_port {
        443 => Some(format!("https://{name}{path}")),
        port => Some(format!("https://{name}:{port}{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_tls_keeps_host_and_path() {
        let uri: Uri = "/x?y=1".parse().unwrap();
        let cases = [
            ("node", 443, Some("https://node/x?y=1")),
            ("10.0.2.15:80", 443, Some("https://10.0.2.15/x?y=1")),
            ("[fd00::1]:8080", 443, Some("https://[fd00::1]/x?y=1")),
            ("localhost:8080", 8443, Some("https://localhost:8443/x?y=1")),
            ("a b", 443, None),
            ("user@host", 443, None),
            ("", 443, None),
        ];
        for (host, port, expected) in cases {
            assert_eq!(target(host, &uri, port).as_deref(), expected, "{host}");
        }
    }
}
