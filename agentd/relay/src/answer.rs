//! One request towards its engine: from the checked job to the first event, then to the end.

use std::time::Duration;

use mnemos_engine_protocol::{Event, FinishReason, Generate, Usage};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::catalog::Model;
use crate::engine::{self, Answer, EngineError};
use crate::error::{ApiError, chain};
use crate::metrics::{Meter, Outcome};
use crate::request::Job;
use crate::response::{Endpoint, Head};

/// Upper bound of a whole answer, in bytes: the longest context there is, in long tokens.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A request that its engine has accepted.
pub(crate) struct Running {
    pub(crate) head: Head,
    pub(crate) answer: Answer,
    pub(crate) meter: Meter,
    /// Time the engine has for each further event.
    pub(crate) event_deadline: Duration,
    /// Frees the slot when the request ends, however it ends.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// A complete answer.
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}

/// How long the engine may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) connect: Duration,
    pub(crate) event: Duration,
}

/// Hands `job` to the engine of `model` and waits until it is accepted or refused.
pub(crate) async fn start(
    head: Head,
    job: Job,
    model: &Model,
    meter: Meter,
    slot: OwnedSemaphorePermit,
    deadlines: Deadlines,
) -> Result<Running, ApiError> {
    match accepted(&head, job, model, deadlines).await {
        Ok(answer) => Ok(Running {
            head,
            answer,
            meter,
            event_deadline: deadlines.event,
            slot,
        }),
        Err(error) => {
            meter.end(Outcome::Error, None);
            Err(error)
        }
    }
}

async fn accepted(
    head: &Head,
    job: Job,
    model: &Model,
    deadlines: Deadlines,
) -> Result<Answer, ApiError> {
    let down = |reason| ApiError::EngineDown {
        model: model.name.clone(),
        reason,
    };
    let Some(socket) = &model.socket else {
        return Err(down(model.down_reason.clone()));
    };
    let request = Generate {
        id: head.id.clone(),
        prompt: job.prompt,
        sampling: job.sampling,
        stop: job.stop,
        max_tokens: job.max_tokens,
    };
    let failed = |error: &EngineError| {
        tracing::warn!(id = head.id, model = model.name, "{}", chain(error));
        ApiError::from_engine(error, &model.name)
    };
    let opened = timeout(deadlines.connect, engine::generate(socket, request)).await;
    let mut answer = opened
        .map_err(|_| down(None))?
        .map_err(|error| failed(&error))?;
    let first = timeout(deadlines.event, answer.next())
        .await
        .map_err(|_| timed_out(deadlines.event))?;
    match first.map_err(|error| failed(&error))? {
        Event::Started { .. } => Ok(answer),
        Event::Error { code, message } => Err(ApiError::from_event(
            code,
            message,
            head.endpoint.prompt_param(),
        )),
        Event::Info(_) | Event::Delta { .. } | Event::Done { .. } => {
            Err(failed(&EngineError::Unexpected("an event out of order")))
        }
    }
}

impl Running {
    /// Collects the whole answer. Dropping the future closes the engine's connection.
    pub(crate) async fn collect(mut self) -> Result<(Head, Whole), ApiError> {
        let collected = self.collect_events().await;
        match &collected {
            Ok(whole) => self.meter.end(whole.reason.into(), Some(whole.usage)),
            Err(_) => self.meter.end(Outcome::Error, None),
        }
        drop(self.slot);
        Ok((self.head, collected?))
    }

    async fn collect_events(&mut self) -> Result<Whole, ApiError> {
        let mut text = String::new();
        loop {
            let event = timeout(self.event_deadline, self.answer.next()).await;
            let event = event.map_err(|_| timed_out(self.event_deadline))?;
            match interpret(event, self.head.endpoint)? {
                Step::Text(more) => {
                    self.meter.token();
                    text.push_str(&more);
                    if text.len() > MAX_ANSWER_BYTES {
                        let message = format!("the answer exceeds {MAX_ANSWER_BYTES} bytes");
                        return Err(ApiError::EngineFailed(message));
                    }
                }
                Step::Done(reason, usage) => {
                    return Ok(Whole {
                        text,
                        reason,
                        usage,
                    });
                }
            }
        }
    }
}

/// What an event after the first means.
pub(crate) enum Step {
    Text(String),
    Done(FinishReason, Usage),
}

/// Sorts an event after [`Event::Started`] into text, end or failure.
pub(crate) fn interpret(
    event: Result<Event, EngineError>,
    endpoint: Endpoint,
) -> Result<Step, ApiError> {
    match event {
        Ok(Event::Delta { text }) => Ok(Step::Text(text)),
        Ok(Event::Done {
            finish_reason,
            usage,
        }) => Ok(Step::Done(finish_reason, usage)),
        Ok(Event::Error { code, message }) => {
            Err(ApiError::from_event(code, message, endpoint.prompt_param()))
        }
        Ok(Event::Info(_) | Event::Started { .. }) => Err(ApiError::EngineDied),
        Err(error) => {
            tracing::warn!("{}", chain(&error));
            Err(ApiError::EngineDied)
        }
    }
}

/// The error for an engine that went silent.
pub(crate) fn timed_out(deadline: Duration) -> ApiError {
    ApiError::Timeout(format!(
        "the engine gave nothing for {} s",
        deadline.as_secs_f64()
    ))
}
