//! Server-sent events. A task of its own reads the engine and fills a bounded queue, so a client that
//! reads slowly stalls nobody else; one that does not read at all loses its request.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at};

use crate::answer::{Running, Step, interpret, timed_out};
use crate::error::ApiError;
use crate::metrics::Outcome;

/// Events that wait for a slow client. A token's event is about 250 bytes.
const QUEUE_EVENTS: usize = 256;
/// A comment this often keeps proxies and clients from giving up during a long prefill.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The client no longer takes events.
struct ClientGone;

/// Starts the pump and returns the response whose body it fills.
pub(crate) fn respond(running: Running, include_usage: bool, client_stall: Duration) -> Response {
    let (sender, receiver) = mpsc::channel(QUEUE_EVENTS);
    let pump = Pump {
        sender,
        include_usage,
        client_stall,
    };
    tokio::spawn(pump.run(running));
    let events = stream::unfold(receiver, |mut receiver| async {
        let event: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

struct Pump {
    sender: mpsc::Sender<Bytes>,
    include_usage: bool,
    client_stall: Duration,
}

/// What woke the pump.
enum Wake {
    ClientGone,
    KeepAlive,
    Step(Result<Step, ApiError>),
}

impl Pump {
    /// Ends with the answer or with the client, whichever is first; then everything is dropped, the
    /// engine's connection too.
    async fn run(self, mut running: Running) {
        match self.forward(&mut running).await {
            Ok(Some((reason, usage))) => running.meter.end(reason, Some(usage)),
            Ok(None) => running.meter.end(Outcome::Error, None),
            Err(ClientGone) => running.meter.end(Outcome::Abort, None),
        }
        drop(running.slot);
    }

    /// Sends the answer. `None`: it ended in an error event.
    async fn forward(
        &self,
        running: &mut Running,
    ) -> Result<Option<(Outcome, mnemos_engine_protocol::Usage)>, ClientGone> {
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(chunk) = running.head.first_chunk() {
            self.send_json(chunk).await?;
        }
        let mut deadline = Instant::now() + running.event_deadline;
        loop {
            let step = match self.wait(running, &mut keep_alive, deadline).await {
                Wake::ClientGone => return Err(ClientGone),
                Wake::KeepAlive => {
                    self.send(Bytes::from_static(b": still working\n\n"))
                        .await?;
                    continue;
                }
                Wake::Step(step) => step,
            };
            deadline = Instant::now() + running.event_deadline;
            match step {
                Ok(Step::Text(text)) => {
                    running.meter.token();
                    self.send_json(running.head.text_chunk(&text)).await?;
                }
                Ok(Step::Done(reason, usage)) => {
                    self.finish(running, reason, &usage).await?;
                    return Ok(Some((reason.into(), usage)));
                }
                Err(error) => {
                    self.send(event(&error.to_json())).await?;
                    return Ok(None);
                }
            }
        }
    }

    async fn wait(
        &self,
        running: &mut Running,
        keep_alive: &mut Interval,
        deadline: Instant,
    ) -> Wake {
        tokio::select! {
            biased;
            () = self.sender.closed() => Wake::ClientGone,
            event = timeout_at(deadline, running.answer.next()) => Wake::Step(match event {
                Ok(event) => interpret(event, running.head.endpoint),
                Err(_) => Err(timed_out(running.event_deadline)),
            }),
            _ = keep_alive.tick() => Wake::KeepAlive,
        }
    }

    async fn finish(
        &self,
        running: &Running,
        reason: mnemos_engine_protocol::FinishReason,
        usage: &mnemos_engine_protocol::Usage,
    ) -> Result<(), ClientGone> {
        self.send_json(running.head.last_chunk(reason)).await?;
        if self.include_usage {
            self.send(event(&running.head.usage_chunk(usage))).await?;
        }
        self.send(Bytes::from_static(b"data: [DONE]\n\n")).await
    }

    /// With `include_usage`, every chunk but the last says `"usage": null`, as OpenAI's do.
    async fn send_json(&self, mut chunk: Value) -> Result<(), ClientGone> {
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        self.send(event(&chunk)).await
    }

    async fn send(&self, event: Bytes) -> Result<(), ClientGone> {
        match timeout(self.client_stall, self.sender.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ClientGone),
        }
    }
}

/// One server-sent event. JSON as `serde_json` writes it has no line break.
fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}
