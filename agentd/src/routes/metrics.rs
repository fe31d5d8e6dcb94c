//! `/metrics`: the node and the model API for Prometheus. Needs the token, since model names and load
//! are nobody else's business; Prometheus sends it with `authorization: {credentials_file: ..}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use mnemos_relay::{Exposition, Kind, method_not_allowed};

use super::now_rfc3339;
use crate::node::Node;
use crate::status::{self, EngineState, Status};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(node)
}

/// 200.
async fn show_metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let status = status::of(&node, now_rfc3339());
    let mut page = Exposition::default();
    write_node(&mut page, &status);
    write_engines(&mut page, &status);
    write_units(&mut page, &status);
    node.metrics.write(&mut page);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.into_text())
}

fn write_node(page: &mut Exposition, status: &Status) {
    page.family(
        "mnemos_build_info",
        Kind::Gauge,
        "Always 1; the version is a label.",
    );
    page.sample("mnemos_build_info", &[("version", status.version)], 1.0);
    let ready = f64::from(u8::from(status.ready));
    page.single(
        "mnemos_ready",
        Kind::Gauge,
        "Whether the self-test passed.",
        ready,
    );
    let uptime = as_float(status.uptime_s);
    page.single(
        "mnemos_uptime_seconds",
        Kind::Gauge,
        "Since the machine started.",
        uptime,
    );
    let total = as_float(status.memory.total_bytes);
    page.single(
        "mnemos_memory_total_bytes",
        Kind::Gauge,
        "Memory of the machine.",
        total,
    );
    let available = as_float(status.memory.available_bytes);
    let help = "Memory that programs could still get.";
    page.single(
        "mnemos_memory_available_bytes",
        Kind::Gauge,
        help,
        available,
    );
    let speeds = [
        (
            "mnemos_self_test_prefill_tokens_per_second",
            status.self_test.prefill_tokens_per_s,
        ),
        (
            "mnemos_self_test_decode_tokens_per_second",
            status.self_test.decode_tokens_per_s,
        ),
    ];
    for (name, speed) in speeds {
        if let Some(speed) = speed {
            page.single(name, Kind::Gauge, "Measured by the self-test.", speed);
        }
    }
}

fn write_engines(page: &mut Exposition, status: &Status) {
    type Read = fn(&status::EngineStatus) -> f64;
    let families: [(&str, &str, Read); 5] = [
        (
            "mnemos_engine_up",
            "Whether the engine answers.",
            |engine| f64::from(u8::from(engine.state == EngineState::Ready)),
        ),
        (
            "mnemos_num_requests_running",
            "Requests the engine works on.",
            |engine| f64::from(engine.running),
        ),
        (
            "mnemos_num_requests_waiting",
            "Requests that wait in the engine.",
            |engine| f64::from(engine.waiting),
        ),
        ("mnemos_model_bytes", "Size of the model file.", |engine| {
            as_float(engine.model_bytes.unwrap_or(0))
        }),
        (
            "mnemos_model_load_seconds",
            "From process start to loaded weights.",
            |engine| as_float(engine.load_ms.unwrap_or(0)) / 1e3,
        ),
    ];
    for (name, help, read) in families {
        page.family(name, Kind::Gauge, help);
        for engine in &status.engines {
            let model = engine.model.as_deref().unwrap_or_default();
            let labels = [("instance_name", &*engine.instance), ("model_name", model)];
            page.sample(name, &labels, read(engine));
        }
    }
}

fn write_units(page: &mut Exposition, status: &Status) {
    let name = "mnemos_unit_restarts_total";
    page.family(
        name,
        Kind::Counter,
        "How often PID 1 started the unit again.",
    );
    for unit in &status.services {
        page.sample(name, &[("unit", &unit.name)], as_float(unit.restarts));
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
fn as_float(count: u64) -> f64 {
    count as f64
}
