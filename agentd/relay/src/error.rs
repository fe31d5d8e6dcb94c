//! Every answer that is not a success, in OpenAI's shape:
//! `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mnemos_engine_protocol::ErrorCode;
use serde_json::{Value, json};

use crate::engine::EngineError;

/// What is usually the case with an engine that is not there.
const RESTARTING: &str = "its engine is starting; try again soon";
/// Seconds after which a refused client should try again: one answer of a small model.
const RETRY_BUSY_S: u64 = 2;
/// Seconds after which a dead engine is usually back.
const RETRY_DOWN_S: u64 = 5;

/// Why a request was refused or failed. One variant for each thing a client can react to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// No token, or not this node's.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {0}")]
    Json(String),
    /// A field is missing, of the wrong type, out of range or not supported.
    #[error("{message}")]
    Field {
        /// Which field.
        param: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The prompt does not fit the model.
    #[error("{message}")]
    ContextLength {
        /// Which field holds the prompt.
        param: &'static str,
        /// The limit and the value.
        message: String,
    },
    /// The node has no such model.
    #[error("{}", unknown_model(model, known))]
    ModelNotFound {
        /// The model asked for.
        model: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// No such path.
    #[error("there is no {0} here")]
    NotFound(String),
    /// The path exists, but not for this method.
    #[error("{method} is not possible on {path}")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The body is larger than accepted.
    #[error("the request body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// What is accepted.
        limit_bytes: usize,
    },
    /// The body's type is not JSON.
    #[error("the request body must be application/json")]
    MediaType,
    /// The client did not send its request in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// Too many requests at once.
    #[error("{0}")]
    Busy(String),
    /// No engine serves the model now.
    #[error("model '{model}' cannot answer now: {}", reason.as_deref().unwrap_or(RESTARTING))]
    EngineDown {
        /// The model asked for.
        model: String,
        /// Why, where it is known and does not pass by itself.
        reason: Option<String>,
    },
    /// The engine died while working on this request.
    #[error("the engine stopped while working on this request; the next one gets a fresh engine")]
    EngineDied,
    /// The engine reported a failure.
    #[error("the engine failed: {0}")]
    EngineFailed(String),
    /// The engine gave nothing in time.
    #[error("{0}")]
    Timeout(String),
    /// A part of the node that this needs does not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// How a variant reaches the client.
struct Face {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
}

impl ApiError {
    /// A refusal of the field `param`.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::Field {
            param: param.into(),
            message: message.into(),
        }
    }

    /// What an engine's error event means for the client. `param` holds the prompt.
    #[must_use]
    pub fn from_event(code: ErrorCode, message: String, param: &'static str) -> ApiError {
        match code {
            ErrorCode::InvalidRequest => ApiError::field(param, message),
            ErrorCode::ContextLengthExceeded => ApiError::ContextLength { param, message },
            ErrorCode::Busy => ApiError::Busy(message),
            ErrorCode::Timeout => ApiError::Timeout(message),
            ErrorCode::Internal => ApiError::EngineFailed(message),
        }
    }

    /// What a broken connection to the engine of `model` means for the client.
    #[must_use]
    pub fn from_engine(error: &EngineError, model: &str) -> ApiError {
        match error {
            EngineError::Connect { .. } => ApiError::EngineDown {
                model: model.to_owned(),
                reason: None,
            },
            EngineError::Send(_)
            | EngineError::Gone
            | EngineError::Frame(_)
            | EngineError::Unexpected(_) => ApiError::EngineDied,
        }
    }

    fn face(&self) -> Face {
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        let (status, kind, code) = match self {
            ApiError::Unauthorized(_) => {
                (StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key"))
            }
            ApiError::Json(_) => (StatusCode::BAD_REQUEST, INVALID, Some("invalid_json")),
            ApiError::Field { .. } => (StatusCode::BAD_REQUEST, INVALID, None),
            ApiError::ContextLength { .. } => (
                StatusCode::BAD_REQUEST,
                INVALID,
                Some("context_length_exceeded"),
            ),
            ApiError::ModelNotFound { .. } => {
                (StatusCode::NOT_FOUND, INVALID, Some("model_not_found"))
            }
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, INVALID, Some("not_found")),
            ApiError::MethodNotAllowed { .. } => (
                StatusCode::METHOD_NOT_ALLOWED,
                INVALID,
                Some("method_not_allowed"),
            ),
            ApiError::BodyTooLarge { .. } => {
                (StatusCode::BAD_REQUEST, INVALID, Some("body_too_large"))
            }
            ApiError::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                INVALID,
                Some("unsupported_media_type"),
            ),
            ApiError::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, INVALID, Some("body_timeout")),
            ApiError::Busy(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                Some("engine_busy"),
            ),
            ApiError::EngineDown { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                Some("engine_unavailable"),
            ),
            ApiError::EngineDied => (StatusCode::BAD_GATEWAY, SERVER, Some("engine_died")),
            ApiError::EngineFailed(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                SERVER,
                Some("engine_error"),
            ),
            ApiError::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, SERVER, Some("engine_timeout")),
            ApiError::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("unavailable"))
            }
        };
        Face { status, kind, code }
    }

    fn param(&self) -> Option<&str> {
        match self {
            ApiError::Field { param, .. } => Some(param),
            ApiError::ContextLength { param, .. } => Some(param),
            ApiError::ModelNotFound { .. } => Some("model"),
            ApiError::BodyTooLarge { .. } => Some("body"),
            _ => None,
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            ApiError::Busy(_) => Some(RETRY_BUSY_S),
            ApiError::EngineDown { .. } | ApiError::EngineDied | ApiError::Unavailable(_) => {
                Some(RETRY_DOWN_S)
            }
            _ => None,
        }
    }

    /// The HTTP status of this error.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.face().status
    }

    /// The error as a JSON object, also sent inside a stream that has begun.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let face = self.face();
        json!({"error": {
            "message": self.to_string(),
            "type": face.kind,
            "param": self.param(),
            "code": face.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"mnemos\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

fn unknown_model(model: &str, known: &[String]) -> String {
    let shown: String = model.chars().take(100).collect();
    if known.is_empty() {
        return format!("model '{shown}' does not exist; this node has no model yet");
    }
    format!(
        "model '{shown}' does not exist; this node has: {}",
        known.join(", ")
    )
}

/// The error and all its causes, `outer: middle: inner`, for one log line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
