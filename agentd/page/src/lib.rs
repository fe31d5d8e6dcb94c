//! The admin page, embedded in the agent: one HTML file, one style sheet and a few ES modules.
//!
//! Nothing is fetched from elsewhere, and a strict content security policy sees to it. The page asks the
//! agent's own API; it holds no state but the access token, in the browser's session storage.

mod assets;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use assets::{ASSETS, Asset};

/// Scripts, styles, images and requests come from this node; nothing may frame the page or change its base.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// Ask each time whether the copy is still good: an upgraded node serves another page.
const CACHING: &str = "no-cache";

/// `GET` and `HEAD` of every file of the page. Needs no token: the page itself is no secret.
pub fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(
            asset.path,
            get(move |headers: HeaderMap| async move { serve(asset, &headers) }),
        )
    })
}

/// The file, or 304 if the client has it already.
fn serve(asset: &'static Asset, request: &HeaderMap) -> Response {
    let etag = asset.etag();
    let known = request
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = match known.is_some_and(|known| matches_etag(known, &etag)) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.body.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    let fixed: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, asset.media_type),
        (CACHE_CONTROL, CACHING),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `If-None-Match` compares weakly: RFC 9110, section 13.1.2.
fn matches_etag(if_none_match: &str, etag: &str) -> bool {
    let mut candidates = if_none_match.split(',').map(str::trim);
    candidates.any(|candidate| {
        candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == etag
    })
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(method: &str, path: &str, etag: Option<&str>) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        router()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers()[name].to_str().unwrap()
    }

    #[tokio::test]
    async fn serves_every_file_with_its_type_and_the_policy() {
        for asset in ASSETS {
            let response = fetch("GET", asset.path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{}", asset.path);
            assert_eq!(header(&response, "content-type"), asset.media_type);
            assert_eq!(header(&response, "content-security-policy"), POLICY);
            assert_eq!(header(&response, "x-content-type-options"), "nosniff");
            assert_eq!(header(&response, "referrer-policy"), "no-referrer");
            assert_eq!(header(&response, "cache-control"), "no-cache");
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(body, asset.body.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_known_file_is_not_sent_again() {
        let first = fetch("GET", "/", None).await;
        let etag = header(&first, "etag").to_owned();
        let again = fetch("GET", "/", Some(&format!("\"other\", W/{etag}"))).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header(&again, "etag"), etag);
        assert!(to_bytes(again.into_body(), 1).await.unwrap().is_empty());
        assert_eq!(
            fetch("GET", "/", Some("\"other\"")).await.status(),
            StatusCode::OK
        );
    }

    #[tokio::test]
    async fn answers_head_and_nothing_but_reading() {
        let head = fetch("HEAD", "/app.js", None).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert!(to_bytes(head.into_body(), 1).await.unwrap().is_empty());
        assert_eq!(
            fetch("POST", "/", None).await.status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            fetch("GET", "/secret", None).await.status(),
            StatusCode::NOT_FOUND
        );
    }
}
