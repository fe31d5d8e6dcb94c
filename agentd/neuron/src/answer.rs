//! Follows one generation to its end: deadlines, stop strings, cancellation, counting.
//!
//! Runs as a task of its own, so that neither a slow client nor a closed connection keeps anybody from
//! taking what the engine sends. The slot is given back when the engine holds nothing of the request
//! any more, not when the client has read everything.

use std::time::{Duration, Instant};

use mnemos_engine_protocol::{Event, FinishReason, Usage};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    budget::{Budget, Deadlines},
    fault::{Fault, Faults},
    generation::{Generation, Output},
    log,
    slots::Slot,
    stop::StopFilter,
};

/// Everything one answer needs.
pub struct Answer {
    /// The caller's name for the request.
    pub id: String,
    /// The running generation.
    pub generation: Generation,
    /// The right to use the engine.
    pub slot: Slot,
    /// Stop strings.
    pub stop: StopFilter,
    /// Tokens of prompt and answer.
    pub budget: Budget,
    /// When the engine counts as hung.
    pub deadlines: Deadlines,
    /// Where a hung or broken engine is reported.
    pub faults: Faults,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
enum Ending {
    Finished(FinishReason),
    Refused(String),
    Faulted(Fault),
    ClientGone,
}

/// Tokens and times so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    tokens: u32,
    first: Duration,
    last: Duration,
}

impl Tally {
    fn token(&mut self, at: Duration) {
        if self.tokens == 0 {
            self.first = at;
        }
        self.tokens = self.tokens.saturating_add(1);
        self.last = at;
    }

    fn usage(&self, budget: Budget) -> Usage {
        Usage {
            prompt_tokens: budget.prompt,
            completion_tokens: self.tokens,
            prefill_ms: self.first.as_secs_f64() * 1000.0,
            decode_ms: self.last.saturating_sub(self.first).as_secs_f64() * 1000.0,
        }
    }
}

impl Answer {
    /// Sends `Delta`s and one `Done` or `Error`. `events` must have room for one event per token and
    /// two more, so that nothing here ever waits for the client.
    pub async fn run(mut self, events: mpsc::Sender<Event>) {
        let start = Instant::now();
        let mut tally = Tally::default();
        let ending = self.follow(&events, &mut tally).await;
        self.generation.cancel();
        self.log(&ending, &tally, start.elapsed());
        if let Some(event) = last_event(&ending, tally.usage(self.budget)) {
            let _ = events.try_send(event); // A client that is gone needs no answer.
        }
        drop(events);
        let fault = match ending {
            Ending::Faulted(fault) => Some(fault),
            Ending::Finished(_) | Ending::Refused(_) | Ending::ClientGone => self.released().await,
        };
        if let Some(fault) = fault {
            self.faults.raise(fault);
        }
        drop(self.slot);
    }

    async fn follow(&mut self, events: &mpsc::Sender<Event>, tally: &mut Tally) -> Ending {
        let faults = self.faults.clone();
        let mut fault = std::pin::pin!(faults.wait());
        loop {
            let deadline = match tally.tokens {
                0 => self.deadlines.first(self.budget.prompt),
                _ => self.deadlines.next_token,
            };
            let output = tokio::select! {
                biased;
                fault = &mut fault => return Ending::Faulted(fault),
                () = events.closed() => return Ending::ClientGone,
                output = timeout(deadline, self.generation.next()) => output,
            };
            let (text, end) = match output {
                Err(_) => return Ending::Faulted(Fault::Hung(deadline.as_secs())),
                Ok(None) => return Ending::Faulted(faults.raised().unwrap_or(Fault::Gone)),
                Ok(Some(Output::Refused(reason))) => return Ending::Refused(reason),
                Ok(Some(Output::Failed(reason))) => return Ending::Faulted(Fault::Step(reason)),
                Ok(Some(Output::Token(at))) => {
                    tally.token(at);
                    continue;
                }
                Ok(Some(Output::Text { text, end })) => (text, end),
            };
            // A panicking engine closes the channel as one does that has finished.
            if let Some(fault) = faults.raised() {
                return Ending::Faulted(fault);
            }
            if let Some(end) = self.pass(&text, end, events) {
                return Ending::Finished(end);
            }
        }
    }

    /// Emits what the stop strings let through.
    fn pass(
        &mut self,
        text: &str,
        end: Option<FinishReason>,
        events: &mpsc::Sender<Event>,
    ) -> Option<FinishReason> {
        let mut passed = self.stop.push(text);
        if !passed.stopped && end.is_some() {
            let stop = std::mem::replace(&mut self.stop, StopFilter::new(Vec::new()));
            passed.text.push_str(&stop.finish());
        }
        if !passed.text.is_empty() {
            // Cannot be full; a closed channel is noticed by `follow`.
            let _ = events.try_send(Event::Delta { text: passed.text });
        }
        if passed.stopped {
            Some(FinishReason::Stop)
        } else {
            end
        }
    }

    /// Waits until the engine has let go of the request: a prefill cannot be interrupted.
    async fn released(&mut self) -> Option<Fault> {
        let deadline = self.deadlines.first(self.budget.prompt);
        let released = timeout(deadline, self.generation.released()).await;
        released.err().map(|_| Fault::Hung(deadline.as_secs()))
    }

    fn log(&self, ending: &Ending, tally: &Tally, elapsed: Duration) {
        let (prompt, tokens) = (self.budget.prompt, tally.tokens);
        let ending = match ending {
            Ending::Finished(FinishReason::Stop) => "stop".to_owned(),
            Ending::Finished(FinishReason::Length) => "length".to_owned(),
            Ending::Refused(reason) => format!("refused: {reason}"),
            Ending::Faulted(fault) => format!("fault: {fault}"),
            Ending::ClientGone => "client gone".to_owned(),
        };
        let ms = elapsed.as_millis();
        log::info(&format!(
            "request id={:?} prompt_tokens={prompt} completion_tokens={tokens} ms={ms} end={ending:?}",
            self.id
        ));
    }
}

fn last_event(ending: &Ending, usage: Usage) -> Option<Event> {
    use mnemos_engine_protocol::ErrorCode::InvalidRequest;
    match ending {
        Ending::Finished(finish_reason) => Some(Event::Done {
            finish_reason: *finish_reason,
            usage,
        }),
        Ending::Refused(reason) => Some(Event::Error {
            code: InvalidRequest,
            message: reason.clone(),
        }),
        Ending::Faulted(fault) => Some(Event::Error {
            code: fault.error_code(),
            message: fault.to_string(),
        }),
        Ending::ClientGone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_run_from_the_first_to_the_last_token() {
        let mut tally = Tally::default();
        for ms in [100, 150, 180] {
            tally.token(Duration::from_millis(ms));
        }
        let usage = tally.usage(Budget {
            prompt: 7,
            answer: 9,
        });
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (7, 3));
        assert!((usage.prefill_ms - 100.0).abs() < 1e-6 && (usage.decode_ms - 80.0).abs() < 1e-6);
    }

    #[test]
    fn a_client_that_is_gone_gets_nothing() {
        let usage = Tally::default().usage(Budget {
            prompt: 1,
            answer: 1,
        });
        assert_eq!(last_event(&Ending::ClientGone, usage), None);
        let hung = last_event(&Ending::Faulted(Fault::Hung(9)), usage);
        let Some(Event::Error { code, message }) = hung else {
            panic!("no error")
        };
        assert_eq!(code, mnemos_engine_protocol::ErrorCode::Timeout);
        assert_eq!(
            message,
            "the engine gave no token within 9 s and restarts itself"
        );
    }
}
