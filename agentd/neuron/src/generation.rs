//! One running answer: the engine's responses as tokens, text and an end.

use std::time::Duration;

use mistralrs::core::CompletionChunkResponse;
use mnemos_engine_protocol::FinishReason;
use tokio::sync::{mpsc, oneshot};

use crate::engine::EngineResponse;

/// What the engine reports while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A token was computed, this long after the request was sent.
    Token(Duration),
    /// Whole characters; `end` on the last piece. An answer may end without text.
    Text {
        /// May be empty.
        text: String,
        /// Why the answer ends here.
        end: Option<FinishReason>,
    },
    /// The request is not possible. The engine is fine.
    Refused(String),
    /// A step failed. The engine is not fine.
    Failed(String),
}

/// An answer in the making. Dropping it cancels, like [`Generation::cancel`].
#[derive(Debug)]
pub struct Generation {
    responses: mpsc::Receiver<EngineResponse>,
    released: oneshot::Receiver<()>,
    max_tokens: u32,
    tokens: u32,
    any_text: bool,
    ended: bool,
}

impl Generation {
    pub(crate) fn new(
        responses: mpsc::Receiver<EngineResponse>,
        released: oneshot::Receiver<()>,
        max_tokens: u32,
    ) -> Self {
        Self {
            responses,
            released,
            max_tokens,
            tokens: 0,
            any_text: false,
            ended: false,
        }
    }

    /// The response we send ourselves, from inside the engine, when it has computed a token. In one
    /// channel with the text, so that tokens are counted exactly where the text has got to; the
    /// engine's own chunks hold several tokens or none when a character spans them.
    pub(crate) fn mark(elapsed: Duration) -> EngineResponse {
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        EngineResponse::Raw {
            logits_chunks: Vec::new(),
            tokens: vec![seconds, elapsed.subsec_nanos()],
        }
    }

    /// What comes next. `None` after the end, or when the engine dropped the request without one.
    /// Safe to cancel.
    pub async fn next(&mut self) -> Option<Output> {
        let Some(response) = self.responses.recv().await else {
            return self.end_without_text();
        };
        Some(match response {
            // After a prompt, the engine runs even an answer that has ended for one more step.
            EngineResponse::Raw { .. } if self.tokens >= self.max_tokens => {
                let end = Some(FinishReason::Length);
                self.last(Output::Text {
                    text: String::new(),
                    end,
                })
            }
            EngineResponse::Raw { tokens, .. } => {
                self.tokens = self.tokens.saturating_add(1);
                Output::Token(mark_time(&tokens))
            }
            EngineResponse::CompletionChunk(chunk) => self.text(chunk),
            EngineResponse::ValidationError(error) => self.last(Output::Refused(error.to_string())),
            EngineResponse::InternalError(error) => self.last(Output::Failed(error.to_string())),
            EngineResponse::CompletionModelError(error, _)
            | EngineResponse::ModelError(error, _) => self.last(Output::Failed(error)),
            EngineResponse::Done(_)
            | EngineResponse::Chunk(_)
            | EngineResponse::CompletionDone(_)
            | EngineResponse::ImageGeneration(_)
            | EngineResponse::Speech { .. }
            | EngineResponse::Embeddings { .. } => self.last(Output::Failed(
                "an answer of a kind that was not asked for".into(),
            )),
        })
    }

    /// Tells the engine to stop; it notices when it sends the next text.
    pub fn cancel(&mut self) {
        self.responses.close();
    }

    /// Waits until the engine holds nothing of this request any more.
    pub async fn released(&mut self) {
        // An error is what we wait for: the other end was dropped.
        let _ = (&mut self.released).await;
    }

    fn last(&mut self, output: Output) -> Output {
        self.ended = true;
        output
    }

    /// The engine sends nothing for a last token that leaves a character incomplete.
    fn end_without_text(&mut self) -> Option<Output> {
        if self.ended || self.tokens == 0 {
            return None;
        }
        let full = self.tokens >= self.max_tokens;
        let end = Some(if full {
            FinishReason::Length
        } else {
            FinishReason::Stop
        });
        Some(self.last(Output::Text {
            text: String::new(),
            end,
        }))
    }

    fn text(&mut self, chunk: CompletionChunkResponse) -> Output {
        let Some(choice) = chunk.choices.into_iter().next() else {
            return Output::Text {
                text: String::new(),
                end: None,
            };
        };
        let mut text = choice.text;
        if !std::mem::replace(&mut self.any_text, true) && self.tokens == 1 {
            // The engine trims the first piece. The bytes of its only token tell what was in front.
            let bytes = choice
                .logprobs
                .and_then(|logprobs| logprobs.bytes)
                .unwrap_or_default();
            text.insert_str(0, leading_space(&String::from_utf8_lossy(&bytes)));
        }
        let Some(reason) = choice.finish_reason else {
            return Output::Text { text, end: None };
        };
        match finish_reason(&reason) {
            Some(end) => self.last(Output::Text {
                text,
                end: Some(end),
            }),
            None => self.last(Output::Failed(format!("the answer ended as {reason}"))),
        }
    }
}

fn mark_time(tokens: &[u32]) -> Duration {
    match tokens {
        [seconds, nanos] => Duration::new(u64::from(*seconds), *nanos),
        _ => Duration::ZERO,
    }
}

fn leading_space(text: &str) -> &str {
    &text[..text.len() - text.trim_start().len()]
}

/// mistral.rs's words. `canceled` can only be seen by a receiver that is still open: not ours.
fn finish_reason(reason: &str) -> Option<FinishReason> {
    match reason {
        "stop" => Some(FinishReason::Stop),
        "length" => Some(FinishReason::Length),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mistralrs::core::{CompletionChunkChoice, ResponseLogprob};

    use super::*;

    fn chunk(text: &str, token: &str, end: Option<&str>) -> EngineResponse {
        let logprobs = ResponseLogprob {
            token: String::new(),
            logprob: 0.0,
            bytes: Some(token.as_bytes().to_vec()),
            top_logprobs: Vec::new(),
        };
        EngineResponse::CompletionChunk(CompletionChunkResponse {
            id: String::new(),
            choices: vec![CompletionChunkChoice {
                text: text.into(),
                index: 0,
                logprobs: Some(logprobs),
                finish_reason: end.map(str::to_owned),
            }],
            created: 0,
            model: String::new(),
            system_fingerprint: String::new(),
            object: String::new(),
        })
    }

    fn mark() -> EngineResponse {
        Generation::mark(Duration::new(2, 5))
    }

    async fn outputs(max_tokens: u32, responses: Vec<EngineResponse>) -> Vec<Output> {
        let (sender, receiver) = mpsc::channel(64);
        for response in responses {
            sender.try_send(response).unwrap();
        }
        drop(sender);
        let (let_go, released) = oneshot::channel();
        drop(let_go);
        let mut generation = Generation::new(receiver, released, max_tokens);
        let mut outputs = Vec::new();
        while let Some(output) = generation.next().await {
            outputs.push(output);
        }
        outputs
    }

    fn text(text: &str, end: Option<FinishReason>) -> Output {
        Output::Text {
            text: text.into(),
            end,
        }
    }

    #[tokio::test]
    async fn marks_and_text_keep_their_order() {
        let seen = outputs(
            9,
            vec![
                mark(),
                chunk("a", "a", None),
                mark(),
                chunk("", "", Some("stop")),
            ],
        );
        let token = Output::Token(Duration::new(2, 5));
        let expected = vec![
            token.clone(),
            text("a", None),
            token,
            text("", Some(FinishReason::Stop)),
        ];
        assert_eq!(seen.await, expected);
    }

    #[tokio::test]
    async fn the_space_in_front_of_the_first_token_is_kept() {
        let seen = outputs(9, vec![mark(), chunk("world", " world", Some("length"))]).await;
        assert_eq!(seen[1], text(" world", Some(FinishReason::Length)));
    }

    #[tokio::test]
    async fn an_incomplete_last_character_still_ends_the_answer() {
        let seen = outputs(2, vec![mark(), chunk("a", "a", None), mark()]).await;
        assert_eq!(seen[3], text("", Some(FinishReason::Length)));
        let seen = outputs(9, vec![mark(), chunk("a", "a", None), mark()]).await;
        assert_eq!(seen[3], text("", Some(FinishReason::Stop)));
    }

    #[tokio::test]
    async fn a_token_too_many_is_not_part_of_the_answer() {
        let seen = outputs(1, vec![mark(), mark(), chunk("é", "", Some("length"))]).await;
        assert_eq!(seen[1], text("", Some(FinishReason::Length)));
    }

    #[tokio::test]
    async fn a_request_dropped_at_once_has_no_end() {
        assert_eq!(outputs(9, Vec::new()).await, Vec::new());
    }

    #[tokio::test]
    async fn refusals_and_failures_are_told_apart() {
        let refused = EngineResponse::ValidationError("too odd".into());
        assert_eq!(
            outputs(9, vec![refused]).await,
            vec![Output::Refused("too odd".into())]
        );
        let failed = EngineResponse::InternalError("no memory".into());
        assert_eq!(
            outputs(9, vec![mark(), failed]).await[1],
            Output::Failed("no memory".into())
        );
    }
}
