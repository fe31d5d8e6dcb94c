//! Measures a finished model: perplexity on text it never saw, greedy answers to questions it never
//! saw, and how far each chosen token was ahead of the next best.

use std::path::Path;

use tokenizers::Tokenizer;

use crate::chat::{self, Turn};
use crate::corpus::Text;
use crate::error::SelftestError;
use crate::infer::{self, Cache, Quantized};
use crate::tokenizer;

/// Tokens after which an answer is cut.
pub const MAX_TOKENS: usize = 96;

/// A self-test case must keep at least this margin at every token, in logits. Kernels for other
/// instruction sets and a cache in f16 move logits by a few hundredths.
pub const SAFE_MARGIN: f32 = 4.0;

/// Cases in `model.json`. They run at each boot before the node is ready, so they are few.
pub const CASES: usize = 3;

/// A greedy answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, without the end token.
    pub text: String,
    /// Tokens chosen, the end token included.
    pub tokens: usize,
    /// True if the model ended the answer itself.
    pub ended: bool,
    /// The smallest distance between the best and the second-best logit.
    pub margin: f32,
}

/// One held-out question, the right answer and the model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Question and right answer.
    pub turn: Turn,
    /// What the model said.
    pub answer: Answer,
}

impl Outcome {
    /// True if the model gave exactly the right answer.
    pub fn is_right(&self) -> bool {
        self.answer.ended && self.answer.text == self.turn.answer
    }
}

/// Mean loss over some tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Nats per token.
    pub nats: f64,
    /// How many tokens.
    pub tokens: usize,
}

impl Loss {
    fn mean(losses: &[f32]) -> Self {
        let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
        Self {
            nats: sum / losses.len().max(1) as f64,
            tokens: losses.len(),
        }
    }

    /// Perplexity: e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.nats.exp()
    }
}

/// Everything measured on one model file.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Answers to training questions as they are written.
    pub training_answers: Loss,
    /// Answers to held-out questions.
    pub held_out_answers: Loss,
    /// Held-out paragraphs.
    pub held_out_paragraphs: Loss,
    /// Every held-out question.
    pub outcomes: Vec<Outcome>,
}

/// Measures the model file at `gguf`.
///
/// # Errors
/// When the file cannot be read or a tensor operation fails.
pub fn evaluate(
    gguf: &Path,
    tokenizer: &Tokenizer,
    training: &Text,
    held_out: &Text,
) -> Result<Evaluation, SelftestError> {
    let model = Quantized::read(gguf)?;
    let mut outcomes = Vec::new();
    for turn in held_out.turns() {
        let answer = answer(&model, tokenizer, &turn.question)?;
        outcomes.push(Outcome { turn, answer });
    }
    Ok(Evaluation {
        training_answers: answer_loss(&model, tokenizer, training)?,
        held_out_answers: answer_loss(&model, tokenizer, held_out)?,
        held_out_paragraphs: paragraph_loss(&model, tokenizer, held_out)?,
        outcomes,
    })
}

/// The model's greedy answer to one question.
///
/// # Errors
/// When the question is longer than the context or a tensor operation fails.
pub fn answer(
    model: &Quantized,
    tokenizer: &Tokenizer,
    question: &str,
) -> Result<Answer, SelftestError> {
    let mut input = tokenizer::encode(tokenizer, &chat::prompt(question))?;
    let (mut cache, mut chosen, mut margin) = (Cache::default(), Vec::new(), f32::INFINITY);
    let mut ended = false;
    while chosen.len() < MAX_TOKENS && !ended {
        let logits = model.forward(&input, &mut cache)?;
        let (token, distance) = infer::best(&logits.get(input.len() - 1)?)?;
        margin = margin.min(distance);
        chosen.push(token);
        ended = token == 0;
        input = vec![token];
    }
    let text = tokenizer::decode(tokenizer, &chosen)?;
    Ok(Answer {
        text,
        tokens: chosen.len(),
        ended,
        margin,
    })
}

fn answer_loss(
    model: &Quantized,
    tokenizer: &Tokenizer,
    text: &Text,
) -> Result<Loss, SelftestError> {
    let mut all = Vec::new();
    for turn in text.turns() {
        let asked = tokenizer::encode(tokenizer, &chat::prompt(&turn.question))?.len();
        let ids = tokenizer::encode(tokenizer, &chat::finished_turn(&turn))?;
        all.extend(infer::losses(model, &ids, asked)?);
    }
    Ok(Loss::mean(&all))
}

fn paragraph_loss(
    model: &Quantized,
    tokenizer: &Tokenizer,
    text: &Text,
) -> Result<Loss, SelftestError> {
    let mut all = Vec::new();
    for paragraph in &text.paragraphs {
        let ids = tokenizer::encode(tokenizer, &format!("{paragraph}{}", chat::END))?;
        all.extend(infer::losses(model, &ids, 1)?);
    }
    Ok(Loss::mean(&all))
}

/// The outcomes to ship as self-test cases: right, safely ahead at every token, no answer twice,
/// shortest answer first: an emulated machine makes only a few tokens a second.
///
/// # Errors
/// When there are fewer than `count`.
pub fn choose_cases(outcomes: &[Outcome], count: usize) -> Result<Vec<&Outcome>, SelftestError> {
    let mut fit: Vec<&Outcome> = outcomes
        .iter()
        .filter(|o| o.is_right() && o.answer.margin >= SAFE_MARGIN)
        .collect();
    fit.sort_by(|a, b| {
        let shorter = a.answer.tokens.cmp(&b.answer.tokens);
        shorter.then(b.answer.margin.total_cmp(&a.answer.margin))
    });
    let mut cases: Vec<&Outcome> = Vec::new();
    for outcome in fit {
        if cases.len() < count
            && cases
                .iter()
                .all(|case| case.turn.answer != outcome.turn.answer)
        {
            cases.push(outcome);
        }
    }
    if cases.len() < count {
        return Err(SelftestError::TooFewCases {
            found: cases.len(),
            needed: count,
        });
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(right: &str, said: &str, tokens: usize, margin: f32) -> Outcome {
        Outcome {
            turn: Turn {
                question: "q".into(),
                answer: right.into(),
            },
            answer: Answer {
                text: said.into(),
                tokens,
                ended: true,
                margin,
            },
        }
    }

    #[test]
    fn cases_are_right_safe_distinct_and_shortest_first() {
        let outcomes = [
            outcome("a", "a", 9, 7.0),
            outcome("b", "x", 2, 9.0),
            outcome("c", "c", 2, 0.3),
            outcome("a", "a", 9, 8.0),
            outcome("d", "d", 4, 5.0),
        ];
        let margins = |n| {
            choose_cases(&outcomes, n)
                .map(|c| c.iter().map(|o| o.answer.margin).collect::<Vec<_>>())
        };
        assert_eq!(margins(2).unwrap(), [5.0, 8.0]);
        assert!(matches!(
            margins(3),
            Err(SelftestError::TooFewCases {
                found: 2,
                needed: 3
            })
        ));
    }

    #[test]
    fn perplexity_is_e_to_the_mean_loss() {
        let loss = Loss::mean(&[1.0, 3.0]);
        assert!((loss.perplexity() - 2f64.exp()).abs() < 1e-9);
    }
}
