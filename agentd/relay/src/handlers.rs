//! `/v1`: the routes of the OpenAI-compatible API.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{self, Deadlines};
use crate::body::read_json;
use crate::catalog::{Catalog, Model};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::request::{Delivery, Job, parse_chat, parse_completion};
use crate::response::{Endpoint, Head, model_entry};
use crate::stream;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bounds of the edge. The defaults are for production; tests shorten them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes: usize,
    /// Time for the whole request body.
    pub body_deadline: Duration,
    /// Requests that may wait for engines at once. Engines have their own, shorter queues.
    pub requests: usize,
    /// Time to hand a request to a local engine.
    pub engine_connect: Duration,
    /// Longest silence of an engine. Longer than the engine's own deadline, which is the first net.
    pub engine_event: Duration,
    /// How long a client may leave a full queue unread.
    pub client_stall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 2 * 1024 * 1024,
            body_deadline: Duration::from_secs(30),
            requests: 64,
            engine_connect: Duration::from_secs(5),
            engine_event: Duration::from_secs(900),
            client_stall: Duration::from_secs(30),
        }
    }
}

/// The edge: what it serves and how much at once.
pub struct Relay {
    catalog: Arc<dyn Catalog>,
    metrics: Arc<Metrics>,
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Relay {
    /// An edge over the models of `catalog`.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>, metrics: Arc<Metrics>, limits: Limits) -> Relay {
        let slots = Arc::new(Semaphore::new(limits.requests));
        Relay {
            catalog,
            metrics,
            limits,
            slots,
        }
    }

    fn find(&self, name: &str) -> Result<Model, ApiError> {
        let models = self.catalog.models();
        let found = models.iter().find(|model| model.name == name);
        found.cloned().ok_or_else(|| missing(name, &models))
    }

    /// The right to work on one request, and its body. In this order: bodies are what costs memory.
    async fn accept(
        &self,
        request: Request<Body>,
    ) -> Result<(OwnedSemaphorePermit, Bytes), ApiError> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| {
            ApiError::Busy(format!(
                "this node works on {} requests already",
                self.limits.requests
            ))
        })?;
        let limits = &self.limits;
        let body = read_json(request, limits.body_bytes, limits.body_deadline).await?;
        Ok((slot, body))
    }

    /// Runs a checked job and shapes its answer.
    async fn serve(
        &self,
        endpoint: Endpoint,
        job: Job,
        slot: OwnedSemaphorePermit,
    ) -> Result<Response, ApiError> {
        let model = self.find(&job.model)?;
        let head = Head::new(endpoint, &model, now_unix());
        let id = HeaderValue::try_from(&head.id);
        let delivery = job.delivery;
        let deadlines = Deadlines {
            connect: self.limits.engine_connect,
            event: self.limits.engine_event,
        };
        let meter = self.metrics.start(&model.name);
        let running = answer::start(head, job, &model, meter, slot, deadlines).await?;
        let mut response = match delivery {
            Delivery::Stream { include_usage } => {
                stream::respond(running, include_usage, self.limits.client_stall)
            }
            Delivery::Whole => {
                let (head, whole) = running.collect().await?;
                Json(head.whole(&whole.text, whole.reason, &whole.usage)).into_response()
            }
        };
        if let Ok(id) = id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// The routes. Put authentication in front.
pub fn router(relay: Arc<Relay>) -> Router {
    Router::new()
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(show_model))
        .route("/v1/chat/completions", post(create_chat))
        .route("/v1/completions", post(create_completion))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(relay)
}

/// 200, always at once.
async fn list_models(State(relay): State<Arc<Relay>>) -> Json<Value> {
    let models: Vec<Value> = relay.catalog.models().iter().map(model_entry).collect();
    Json(json!({"object": "list", "data": models}))
}

/// 200, or 404 naming those that exist.
async fn show_model(
    State(relay): State<Arc<Relay>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(model_entry(&relay.find(&id)?)))
}

/// 200 with an object or events. 400: the field. 404: the model. 429, 503: later. 502, 504: the engine.
async fn create_chat(
    State(relay): State<Arc<Relay>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (slot, body) = relay.accept(request).await?;
    relay.serve(Endpoint::Chat, parse_chat(&body)?, slot).await
}

/// As [`create_chat`].
async fn create_completion(
    State(relay): State<Arc<Relay>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (slot, body) = relay.accept(request).await?;
    relay
        .serve(Endpoint::Completions, parse_completion(&body)?, slot)
        .await
}

/// The JSON answer to a known path with another method.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed {
        method: method.to_string(),
        path: shortened(uri.path()),
    }
}

/// The JSON answer to an unknown path.
pub async fn not_found(uri: Uri) -> ApiError {
    ApiError::NotFound(shortened(uri.path()))
}

fn shortened(path: &str) -> String {
    path.chars().take(100).collect()
}

fn missing(name: &str, models: &[Model]) -> ApiError {
    let known = models.iter().map(|model| model.name.clone()).collect();
    ApiError::ModelNotFound {
        model: name.to_owned(),
        known,
    }
}

fn now_unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
