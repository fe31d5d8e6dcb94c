//! What is written beside the weights: `model.json` for the node, `TRAINING.md` for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::chat;
use crate::corpus::Corpus;
use crate::error::SelftestError;
use crate::eval::{Evaluation, Loss, MAX_TOKENS, Outcome, SAFE_MARGIN};
use crate::gguf::MODEL_NAME;
use crate::shape::Shape;
use crate::train::Run;

/// One self-test case of `model.json`.
#[derive(Debug, Serialize)]
struct Case<'a> {
    prompt: &'a str,
    answer: &'a str,
    max_tokens: usize,
}

/// `model.json`, which the node reads beside `model.gguf`.
#[derive(Debug, Serialize)]
struct Description<'a> {
    name: &'a str,
    self_test: bool,
    description: &'a str,
    context_tokens: usize,
    sha256: &'a str,
    license: &'a str,
    self_test_cases: Vec<Case<'a>>,
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> Result<String, SelftestError> {
    let bytes = fs::read(path).map_err(|source| SelftestError::Read {
        path: path.into(),
        source,
    })?;
    Ok(Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}

/// The text of `model.json`.
///
/// # Errors
/// When it cannot be converted.
pub fn model_json(
    shape: &Shape,
    sha256: &str,
    cases: &[&Outcome],
) -> Result<String, SelftestError> {
    let case = |outcome: &&'_ Outcome| -> (String, String) {
        (outcome.turn.question.clone(), outcome.answer.text.clone())
    };
    let pairs: Vec<(String, String)> = cases.iter().map(case).collect();
    let description = Description {
        name: MODEL_NAME,
        self_test: true,
        description: "Self-test model: proves that the engine computes. It knows a little about MNEMOS and nothing else; it is not an assistant.",
        context_tokens: shape.context,
        sha256,
        license: "Apache-2.0",
        self_test_cases: pairs
            .iter()
            .map(|(prompt, answer)| Case {
                prompt,
                answer,
                max_tokens: MAX_TOKENS,
            })
            .collect(),
    };
    let json =
        serde_json::to_string_pretty(&description).map_err(|source| SelftestError::Json {
            what: "model.json",
            source,
        })?;
    Ok(json + "\n")
}

/// What `TRAINING.md` is made of.
pub struct Record<'a> {
    /// The training run.
    pub run: &'a Run,
    /// The corpus.
    pub corpus: &'a Corpus,
    /// The dimensions.
    pub shape: &'a Shape,
    /// What was measured.
    pub evaluation: &'a Evaluation,
    /// Name and SHA-256 of each written file.
    pub hashes: &'a [(&'a str, String)],
    /// Tokens in all training text.
    pub corpus_tokens: usize,
}

/// The text of `TRAINING.md`.
pub fn training_md(record: &Record<'_>) -> String {
    let mut text = String::from(
        "# The self-test model: how it was made\n\nWritten by the training program; do not edit.\n\n",
    );
    text += &command(record.run);
    text += &figures(record);
    text += &hashes(record.hashes);
    text += &outcomes(&record.evaluation.outcomes);
    text
}

fn command(run: &Run) -> String {
    format!(
        "Run in `agentd/neuron` on an x86-64-v3 machine (the same machine and thread count give the same file;\n\
         another processor may round differently):\n\n    RAYON_NUM_THREADS=1 cargo run --release --locked -p mnemos-selftest-model -- \\\n        \
         train --corpus selftest/corpus --out selftest/model --steps {} --seed {}\n\n",
        run.steps, run.seed
    )
}

fn figures(record: &Record<'_>) -> String {
    let mut rows = subject_rows(record);
    rows.extend(result_rows(record));
    let mut text = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text + "\nAll but the training loss is measured on the Q8_0 weights as stored, with the quantized kernels.\n\
            A held-out question is a phrasing that is not in the training text, case and punctuation apart; its\n\
            answer is in the training text. The held-out paragraphs are new text.\n\n"
}

/// Model, text and run.
fn subject_rows(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let (run, shape, training) = (record.run, record.shape, &record.corpus.training);
    let speed = run.tokens as f64 / run.seconds;
    vec![
        ("parameters", shape.parameters().to_string()),
        (
            "shape",
            format!(
                "{} layers, width {}, {} heads ({} for keys and values), feed-forward {}, vocabulary {}, context {}",
                shape.layers,
                shape.width,
                shape.heads,
                shape.kv_heads,
                shape.feed_forward,
                shape.vocabulary,
                shape.context
            ),
        ),
        (
            "training text",
            format!(
                "{} answers, {} questions, {} paragraphs, {} bytes, {} tokens",
                training.topics.len(),
                training.turns().len(),
                training.paragraphs.len(),
                training.bytes(),
                record.corpus_tokens
            ),
        ),
        (
            "steps",
            format!("{} ({:.1} passes over the text)", run.steps, run.epochs),
        ),
        (
            "time",
            format!(
                "{:.0} s, {speed:.0} tokens/s (of the last uninterrupted part)",
                run.seconds
            ),
        ),
    ]
}

/// What was measured.
fn result_rows(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let (run, evaluation) = (record.run, record.evaluation);
    let loss = |loss: &Loss| {
        let (nats, perplexity) = (loss.nats, loss.perplexity());
        format!(
            "{nats:.3} nats, perplexity {perplexity:.2}, {} tokens",
            loss.tokens
        )
    };
    let outcomes = &evaluation.outcomes;
    let right = outcomes.iter().filter(|outcome| outcome.is_right()).count();
    vec![
        (
            "training loss at the end",
            format!(
                "{:.3} nats per token, f32 weights, varied questions included",
                run.loss
            ),
        ),
        (
            "answers to training questions",
            loss(&evaluation.training_answers),
        ),
        (
            "answers to held-out questions",
            loss(&evaluation.held_out_answers),
        ),
        ("held-out paragraphs", loss(&evaluation.held_out_paragraphs)),
        (
            "held-out questions answered exactly",
            format!("{right} of {}", outcomes.len()),
        ),
    ]
}

fn hashes(hashes: &[(&str, String)]) -> String {
    let mut text = String::from("| file | SHA-256 |\n|---|---|\n");
    for (name, hash) in hashes {
        let _ = writeln!(text, "| `{name}` | `{hash}` |");
    }
    text
}

fn outcomes(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "\n## Held-out questions, decoded greedily\n\nMargin: the smallest distance between the best and the second-best \
         logit over the answer.\nSelf-test cases are exact answers with a margin of at least {SAFE_MARGIN}, the three shortest.\n\n\
         | question | answer | exact | margin |\n|---|---|---|---|\n"
    );
    for outcome in outcomes {
        let exact = if outcome.is_right() { "yes" } else { "no" };
        let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(
            text,
            "| {} | {} | {exact} | {:.2} |",
            cell(&outcome.turn.question),
            cell(&outcome.answer.text),
            outcome.answer.margin
        );
    }
    text
}

/// Every text the tokenizer is trained on.
pub fn tokenizer_texts(corpus: &Corpus) -> Vec<String> {
    let turns = corpus.training.turns();
    let mut texts: Vec<String> = turns.iter().map(|turn| turn.question.clone()).collect();
    texts.extend(turns.into_iter().map(|turn| turn.answer));
    texts.extend(corpus.training.paragraphs.iter().cloned());
    texts
}

/// One line for `eval`'s output.
pub fn outcome_line(outcome: &Outcome) -> String {
    let mark = if outcome.is_right() { "=" } else { "!" };
    format!(
        "{mark} {:6.2}  {}\n          {}",
        outcome.answer.margin,
        chat::prompt(&outcome.turn.question),
        outcome.answer.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Turn;
    use crate::eval::Answer;

    #[test]
    fn model_json_has_the_fields_the_node_reads() {
        let outcome = Outcome {
            turn: Turn {
                question: "What is it?".into(),
                answer: "A node.".into(),
            },
            answer: Answer {
                text: "A node.".into(),
                tokens: 4,
                ended: true,
                margin: 2.0,
            },
        };
        let json = model_json(&Shape::selftest(2048), "ab", &[&outcome]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["name"], "mnemos-selftest");
        assert_eq!(json["self_test"], true);
        assert_eq!(json["context_tokens"], 512);
        assert_eq!(json["sha256"], "ab");
        assert_eq!(json["self_test_cases"][0]["prompt"], "What is it?");
        assert_eq!(json["self_test_cases"][0]["answer"], "A node.");
    }

    #[test]
    fn committed_model_matches_its_description() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
        let json = fs::read_to_string(directory.join("model.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let model = directory.join("model.gguf");
        assert_eq!(json["sha256"], sha256(&model).unwrap());
        assert!(fs::metadata(&model).unwrap().len() <= 8 << 20);
    }
}
