//! The proof that a node works: known prompts, decoded greedily, must give exactly the known text.

use std::path::Path;
use std::time::Duration;

use mnemos_engine_protocol::{ErrorCode, Event, Generate, Message, Prompt, Role, Sampling, Usage};
use mnemos_relay::{EngineError, chain, generate};
use tokio::time::timeout;

use super::card::Case;
use super::registry::Proof;

/// State of the proof.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum SelfTest {
    /// No engine with a self-test model is up.
    #[default]
    Pending,
    /// The cases are being decoded.
    Running,
    /// Every case gave its text.
    Passed(Passed),
    /// A case did not.
    Failed { detail: String, cases: usize },
}

/// What a passed self-test measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Passed {
    pub(crate) cases: usize,
    pub(crate) prefill_tokens_per_s: Option<f64>,
    pub(crate) decode_tokens_per_s: Option<f64>,
}

/// Why a case gave no text to compare.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseError {
    #[error("engine failed")]
    Engine(#[from] EngineError),
    #[error("engine gave nothing for {0} s")]
    Silent(u64),
    #[error("engine refused ({code:?}): {message}")]
    Refused { code: ErrorCode, message: String },
    #[error("engine sent an event out of order")]
    Order,
}

/// How a run over all cases ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// The engine answered, rightly or wrongly.
    Settled(SelfTest),
    /// The engine went away or had no room: nothing is proven, try again.
    Interrupted(String),
}

/// Decodes all cases one after the other and judges them.
pub(crate) async fn run(proof: &Proof, event_deadline: Duration) -> Verdict {
    let mut usages = Vec::new();
    for (index, case) in proof.cases.iter().enumerate() {
        let number = index + 1;
        let decoded = decode(&proof.socket, case, number, event_deadline).await;
        match judge(case, number, decoded, proof.cases.len()) {
            Ok(usage) => usages.push(usage),
            Err(verdict) => return verdict,
        }
    }
    if usages.is_empty() {
        let detail = "model.json has no self-test cases".to_owned();
        return Verdict::Settled(SelfTest::Failed { detail, cases: 0 });
    }
    Verdict::Settled(SelfTest::Passed(speeds(&usages)))
}

fn judge(
    case: &Case,
    number: usize,
    decoded: Result<(String, Usage), CaseError>,
    cases: usize,
) -> Result<Usage, Verdict> {
    let detail = match decoded {
        Ok((text, usage)) if text == case.answer => return Ok(usage),
        Ok((text, _)) => format!("case {number}: expected {:?}, got {text:?}", case.answer),
        Err(error) if error.passes() => return Err(Verdict::Interrupted(chain(&error))),
        Err(error) => format!("case {number}: {}", chain(&error)),
    };
    Err(Verdict::Settled(SelfTest::Failed { detail, cases }))
}

impl CaseError {
    /// Whether the same case may well succeed in a moment: the engine ended, restarts or is busy.
    fn passes(&self) -> bool {
        match self {
            CaseError::Engine(_) => true,
            CaseError::Refused { code, .. } => match code {
                ErrorCode::Busy | ErrorCode::Timeout | ErrorCode::Internal => true,
                ErrorCode::InvalidRequest | ErrorCode::ContextLengthExceeded => false,
            },
            CaseError::Silent(_) | CaseError::Order => false,
        }
    }
}

async fn decode(
    socket: &Path,
    case: &Case,
    number: usize,
    event_deadline: Duration,
) -> Result<(String, Usage), CaseError> {
    let message = Message {
        role: Role::User,
        content: case.prompt.clone(),
    };
    let request = Generate {
        id: format!("self-test-{number}"),
        prompt: Prompt::Chat(vec![message]),
        sampling: Sampling {
            temperature: 0.0,
            top_p: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
        },
        stop: Vec::new(),
        max_tokens: Some(case.max_tokens),
    };
    let mut answer = generate(socket, request).await?;
    let mut text = String::new();
    loop {
        let event = timeout(event_deadline, answer.next()).await;
        match event.map_err(|_| CaseError::Silent(event_deadline.as_secs()))?? {
            Event::Started { .. } => {}
            Event::Delta { text: more } => text.push_str(&more),
            Event::Done { usage, .. } => return Ok((text, usage)),
            Event::Error { code, message } => return Err(CaseError::Refused { code, message }),
            Event::Info(_) => return Err(CaseError::Order),
        }
    }
}

/// Tokens per second over all cases. The first token of an answer belongs to the prefill.
fn speeds(usages: &[Usage]) -> Passed {
    let sum = |of: fn(&Usage) -> f64| usages.iter().map(of).sum::<f64>();
    let prefilled = sum(|usage| f64::from(usage.prompt_tokens));
    let decoded = sum(|usage| f64::from(usage.completion_tokens.saturating_sub(1)));
    Passed {
        cases: usages.len(),
        prefill_tokens_per_s: per_second(prefilled, sum(|usage| usage.prefill_ms)),
        decode_tokens_per_s: per_second(decoded, sum(|usage| usage.decode_ms)),
    }
}

/// Rounded to a tenth: more digits would be noise.
fn per_second(tokens: f64, ms: f64) -> Option<f64> {
    (ms > 0.0).then(|| (tokens * 10_000.0 / ms).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_settles_and_a_lost_engine_does_not() {
        let case = Case {
            prompt: "p".into(),
            answer: "right".into(),
            max_tokens: 3,
        };
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 1,
            prefill_ms: 1.0,
            decode_ms: 1.0,
        };
        let judged = |decoded| judge(&case, 1, decoded, 1);
        assert!(judged(Ok(("right".into(), usage))).is_ok());
        let wrong = judged(Ok(("right ".into(), usage)));
        assert!(matches!(
            wrong,
            Err(Verdict::Settled(SelfTest::Failed { .. }))
        ));
        let silent = judged(Err(CaseError::Silent(3)));
        assert!(matches!(
            silent,
            Err(Verdict::Settled(SelfTest::Failed { .. }))
        ));
        let gone = judged(Err(EngineError::Gone.into()));
        assert!(matches!(gone, Err(Verdict::Interrupted(_))));
        let busy = CaseError::Refused {
            code: ErrorCode::Busy,
            message: "full".into(),
        };
        assert!(matches!(judged(Err(busy)), Err(Verdict::Interrupted(_))));
    }

    #[test]
    fn speeds_are_over_all_cases() {
        let usage = |prompt_tokens, completion_tokens, prefill_ms, decode_ms| Usage {
            prompt_tokens,
            completion_tokens,
            prefill_ms,
            decode_ms,
        };
        let passed = speeds(&[usage(10, 11, 100.0, 200.0), usage(30, 31, 100.0, 200.0)]);
        assert_eq!(passed.prefill_tokens_per_s, Some(200.0));
        assert_eq!(passed.decode_tokens_per_s, Some(100.0));
        assert_eq!(speeds(&[usage(1, 1, 0.0, 0.0)]).decode_tokens_per_s, None);
    }
}
