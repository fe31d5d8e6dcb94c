//! What can go wrong while the model is trained, written or evaluated.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// Why a command stopped. One variant per thing a person can look at.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A corpus file does not follow its format.
    #[error("{}:{line}: {problem}", path.display())]
    Corpus {
        /// The corpus file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        problem: CorpusProblem,
    },
    /// A held-out question also stands in the training text.
    #[error("held-out question {question:?} is also in the training text")]
    HeldOutInTraining {
        /// The question.
        question: String,
    },
    /// A held-out answer is no answer of the training text.
    #[error("held-out answer {answer:?} is not an answer of the training text")]
    HeldOutAnswerUnknown {
        /// The answer.
        answer: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
    /// The tokenizer could not be trained, read or used.
    #[error("tokenizer: cannot {doing}")]
    Tokenizer {
        /// What was tried.
        doing: &'static str,
        /// The library's answer.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// `tokenizer.json` lacks something a GGUF file needs.
    #[error("tokenizer.json has no usable {what}")]
    TokenizerPart {
        /// The missing part.
        what: &'static str,
    },
    /// A JSON file could not be read or written.
    #[error("cannot convert {what} to or from JSON")]
    Json {
        /// Which document.
        what: &'static str,
        /// The library's answer.
        #[source]
        source: serde_json::Error,
    },
    /// A checkpoint does not belong to this model.
    #[error("checkpoint {} does not fit: {what}", path.display())]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// A GGUF file lacks a metadata value, or has one of another type.
    #[error("GGUF metadata {key} is missing or of another type")]
    Metadata {
        /// The key.
        key: String,
    },
    /// Too few held-out prompts are good enough to be self-test cases.
    #[error("only {found} held-out prompts are fit to be self-test cases, {needed} are needed")]
    TooFewCases {
        /// How many are fit.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
}

/// What a corpus file's line got wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorpusProblem {
    /// The line does not start with a known mark.
    #[error("a line starts with `Q: `, `A: `, `P: `, or `#`")]
    UnknownLine,
    /// An answer came without a question before it.
    #[error("an answer needs a question before it")]
    AnswerWithoutQuestion,
    /// Questions came without an answer after them.
    #[error("a question needs an answer after it")]
    QuestionWithoutAnswer,
}

/// The error and all its causes, for one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
