//! RELAY: the OpenAI-compatible edge of a node. `/v1/models`, `/v1/chat/completions` and
//! `/v1/completions`, on top of engine processes that are reached over Unix sockets.
//!
//! ```text
//! body --parse--> Job --> engine socket --> events --+--> one JSON object
//!                                                    +--> server-sent events
//! ```
//! Inside, every answer streams, whatever the client asked for. The engine stops working for a client
//! that is gone because the request's socket closes with the request: nothing else holds it.
//! No authentication here: whoever mounts [`router`] puts it in front.

mod answer;
mod body;
mod catalog;
mod engine;
mod error;
mod exposition;
mod handlers;
mod metrics;
mod request;
mod response;
mod stream;

pub use catalog::{Catalog, Model, fingerprint};
pub use engine::{Answer, EngineError, generate, info};
pub use error::{ApiError, chain};
pub use exposition::{Exposition, Kind};
pub use handlers::{Limits, Relay, method_not_allowed, not_found, router};
pub use metrics::Metrics;
pub use request::{Delivery, Job, parse_chat, parse_completion};
