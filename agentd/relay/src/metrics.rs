//! Counters and histograms of the edge, with the meaning and buckets of vLLM's, named `mnemos_*`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mnemos_engine_protocol::{FinishReason, Usage};

use crate::exposition::{Exposition, Kind};

/// vLLM's buckets for the time to the first token, in seconds.
const FIRST_TOKEN_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// vLLM's buckets for the time between tokens, in seconds, with two finer ones for small models.
const INTER_TOKEN_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0, 20.0, 40.0, 80.0,
];
/// vLLM's buckets for the whole request, in seconds, with one finer for small models.
const WHOLE_S: &[f64] = &[
    0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Stop,
    Length,
    /// The client went away or did not read.
    Abort,
    /// The engine or the node failed, or refused late.
    Error,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Stop => "stop",
            Outcome::Length => "length",
            Outcome::Abort => "abort",
            Outcome::Error => "error",
        }
    }
}

impl From<FinishReason> for Outcome {
    fn from(reason: FinishReason) -> Outcome {
        match reason {
            FinishReason::Stop => Outcome::Stop,
            FinishReason::Length => Outcome::Length,
        }
    }
}

/// All numbers of the edge since the agent started.
#[derive(Debug, Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By route, method and status: bounded, since routes are ours.
    responses: BTreeMap<(String, String, u16), u64>,
    /// By model name: bounded, since only models that exist are counted.
    models: BTreeMap<String, ModelNumbers>,
}

#[derive(Debug)]
struct ModelNumbers {
    in_flight: u64,
    outcomes: BTreeMap<Outcome, u64>,
    prompt_tokens: u64,
    generation_tokens: u64,
    first_token: Histogram,
    inter_token: Histogram,
    whole: Histogram,
}

impl Default for ModelNumbers {
    fn default() -> ModelNumbers {
        ModelNumbers {
            in_flight: 0,
            outcomes: BTreeMap::new(),
            prompt_tokens: 0,
            generation_tokens: 0,
            first_token: Histogram::new(FIRST_TOKEN_S),
            inter_token: Histogram::new(INTER_TOKEN_S),
            whole: Histogram::new(WHOLE_S),
        }
    }
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an HTTP response. `route` is the route's pattern, never the client's path.
    pub fn count_response(&self, route: &str, method: &str, status: u16) {
        let key = (route.to_owned(), method.to_owned(), status);
        *self.lock().responses.entry(key).or_default() += 1;
    }

    /// Starts the clock of a request to the existing model `model`.
    pub(crate) fn start(self: &Arc<Metrics>, model: &str) -> Meter {
        let now = Instant::now();
        self.lock()
            .models
            .entry(model.to_owned())
            .or_default()
            .in_flight += 1;
        Meter {
            metrics: self.clone(),
            model: model.to_owned(),
            started: now,
            last_token: None,
            ended: false,
        }
    }

    /// Writes all families.
    pub fn write(&self, page: &mut Exposition) {
        let inner = self.lock();
        page.family(
            "mnemos_http_responses_total",
            Kind::Counter,
            "HTTP responses by route.",
        );
        for ((route, method, status), count) in &inner.responses {
            let status = status.to_string();
            let labels = [
                ("route", &**route),
                ("method", &**method),
                ("status", &*status),
            ];
            page.sample("mnemos_http_responses_total", &labels, as_float(*count));
        }
        write_requests(&inner, page);
        write_tokens(&inner, page);
        let name = "mnemos_time_to_first_token_seconds";
        page.family(
            name,
            Kind::Histogram,
            "From the whole request to the first text.",
        );
        inner
            .models
            .iter()
            .for_each(|(model, n)| n.first_token.write(page, name, model));
        let name = "mnemos_inter_token_latency_seconds";
        page.family(
            name,
            Kind::Histogram,
            "Between two pieces of text of one answer.",
        );
        inner
            .models
            .iter()
            .for_each(|(model, n)| n.inter_token.write(page, name, model));
        let name = "mnemos_e2e_request_latency_seconds";
        page.family(
            name,
            Kind::Histogram,
            "From the whole request to the end of its answer.",
        );
        inner
            .models
            .iter()
            .for_each(|(model, n)| n.whole.write(page, name, model));
    }
}

fn write_requests(inner: &Inner, page: &mut Exposition) {
    let name = "mnemos_requests_in_flight";
    page.family(
        name,
        Kind::Gauge,
        "Requests the edge holds open towards an engine.",
    );
    for (model, numbers) in &inner.models {
        page.sample(name, &[("model_name", model)], as_float(numbers.in_flight));
    }
    let name = "mnemos_requests_total";
    page.family(
        name,
        Kind::Counter,
        "Requests that reached an engine, by how they ended.",
    );
    for (model, numbers) in &inner.models {
        for (outcome, count) in &numbers.outcomes {
            let labels = [
                ("model_name", &**model),
                ("finished_reason", outcome.label()),
            ];
            page.sample(name, &labels, as_float(*count));
        }
    }
}

fn write_tokens(inner: &Inner, page: &mut Exposition) {
    let name = "mnemos_prompt_tokens_total";
    page.family(name, Kind::Counter, "Prompt tokens of completed requests.");
    for (model, numbers) in &inner.models {
        page.sample(
            name,
            &[("model_name", model)],
            as_float(numbers.prompt_tokens),
        );
    }
    let name = "mnemos_generation_tokens_total";
    page.family(
        name,
        Kind::Counter,
        "Generated tokens of completed requests.",
    );
    for (model, numbers) in &inner.models {
        page.sample(
            name,
            &[("model_name", model)],
            as_float(numbers.generation_tokens),
        );
    }
}

/// The clock of one request. Dropped without [`Meter::end`], the request counts as aborted: the
/// future that held it was dropped because its client is gone.
#[derive(Debug)]
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    model: String,
    started: Instant,
    last_token: Option<Instant>,
    ended: bool,
}

impl Meter {
    /// Text arrived from the engine.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        let mut inner = self.metrics.lock();
        let numbers = inner.models.entry(self.model.clone()).or_default();
        match self.last_token.replace(now) {
            None => numbers.first_token.observe(now - self.started),
            Some(last) => numbers.inter_token.observe(now - last),
        }
    }

    /// The request is over.
    pub(crate) fn end(mut self, outcome: Outcome, usage: Option<Usage>) {
        self.record(outcome, usage);
    }

    fn record(&mut self, outcome: Outcome, usage: Option<Usage>) {
        self.ended = true;
        let took = self.started.elapsed();
        let mut inner = self.metrics.lock();
        let numbers = inner.models.entry(self.model.clone()).or_default();
        numbers.in_flight = numbers.in_flight.saturating_sub(1);
        *numbers.outcomes.entry(outcome).or_default() += 1;
        numbers.whole.observe(took);
        let (prompt, generated) = usage.map_or((0, 0), |usage| {
            (usage.prompt_tokens, usage.completion_tokens)
        });
        numbers.prompt_tokens += u64::from(prompt);
        numbers.generation_tokens += u64::from(generated);
        drop(inner);
        let (model, outcome) = (&self.model, outcome.label());
        tracing::info!(
            model,
            outcome,
            prompt,
            generated,
            took_ms = took.as_secs_f64() * 1e3,
            "request"
        );
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Outcome::Abort, None);
        }
    }
}

#[derive(Debug)]
struct Histogram {
    bounds_s: &'static [f64],
    /// Observations at most as long as the bound of the same index, not cumulated.
    counts: Vec<u64>,
    count: u64,
    sum_s: f64,
}

impl Histogram {
    fn new(bounds_s: &'static [f64]) -> Histogram {
        Histogram {
            bounds_s,
            counts: vec![0; bounds_s.len()],
            count: 0,
            sum_s: 0.0,
        }
    }

    fn observe(&mut self, took: Duration) {
        let took_s = took.as_secs_f64();
        let index = self.bounds_s.partition_point(|bound| *bound < took_s);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.count += 1;
        self.sum_s += took_s;
    }

    fn write(&self, page: &mut Exposition, name: &str, model: &str) {
        let bucket = format!("{name}_bucket");
        let mut cumulated = 0;
        for (bound, count) in self.bounds_s.iter().zip(&self.counts) {
            cumulated += count;
            let bound = bound.to_string();
            page.sample(
                &bucket,
                &[("model_name", model), ("le", &bound)],
                as_float(cumulated),
            );
        }
        page.sample(
            &bucket,
            &[("model_name", model), ("le", "+Inf")],
            as_float(self.count),
        );
        page.sample(&format!("{name}_sum"), &[("model_name", model)], self.sum_s);
        page.sample(
            &format!("{name}_count"),
            &[("model_name", model)],
            as_float(self.count),
        );
    }
}

/// Prometheus has floats only; counts above 2^53 lose their last digit there anyway.
#[expect(clippy::cast_precision_loss, reason = "the format has floats only")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for ms in [50, 100, 500, 3000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut page = Exposition::default();
        histogram.write(&mut page, "h", "m");
        let text = page.into_text();
        assert!(
            text.contains("h_bucket{model_name=\"m\",le=\"0.1\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("h_bucket{model_name=\"m\",le=\"1\"} 3\n"),
            "{text}"
        );
        assert!(
            text.contains("h_bucket{model_name=\"m\",le=\"+Inf\"} 4\n"),
            "{text}"
        );
        assert!(text.contains("h_count{model_name=\"m\"} 4\n"), "{text}");
    }

    #[test]
    fn a_dropped_meter_counts_as_aborted_once() {
        let metrics = Arc::new(Metrics::default());
        drop(metrics.start("m"));
        metrics.start("m").end(Outcome::Stop, None);
        let mut page = Exposition::default();
        metrics.write(&mut page);
        let text = page.into_text();
        assert!(
            text.contains("mnemos_requests_in_flight{model_name=\"m\"} 0\n"),
            "{text}"
        );
        let name = "mnemos_requests_total{model_name=\"m\",finished_reason";
        assert!(text.contains(&format!("{name}=\"abort\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("{name}=\"stop\"}} 1\n")), "{text}");
    }
}
