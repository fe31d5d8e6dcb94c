//! The training text: plain files of questions, answers and paragraphs under `corpus/`.
//!
//! ```text
//! # comment
//! Q: one phrasing          any number of phrasings,
//! Q: another phrasing
//! A: the answer to all     then the one answer to all of them
//! P: a paragraph of plain text
//! ```
//! `heldout.txt` has the same format; its questions are never trained on, and each of its answers
//! must be an answer of the training text.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::chat::Turn;
use crate::error::{CorpusProblem, SelftestError};

/// Name of the file that is never trained on.
pub const HELD_OUT_FILE: &str = "heldout.txt";

/// One answer and every phrasing of its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Phrasings, at least one.
    pub questions: Vec<String>,
    /// The answer to all of them.
    pub answer: String,
}

/// What one file, or all training files together, hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Questions and answers.
    pub topics: Vec<Topic>,
    /// Plain paragraphs.
    pub paragraphs: Vec<String>,
}

impl Text {
    /// Every pair of a phrasing and its answer.
    pub fn turns(&self) -> Vec<Turn> {
        let pairs = self.topics.iter().flat_map(|topic| {
            topic.questions.iter().map(|question| Turn {
                question: question.clone(),
                answer: topic.answer.clone(),
            })
        });
        pairs.collect()
    }

    /// Bytes of all questions, answers and paragraphs, each counted once.
    pub fn bytes(&self) -> usize {
        let topic = |t: &Topic| t.answer.len() + t.questions.iter().map(String::len).sum::<usize>();
        self.topics.iter().map(topic).sum::<usize>()
            + self.paragraphs.iter().map(String::len).sum::<usize>()
    }
}

/// Training text and held-out text, checked against each other.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// What the model is trained on.
    pub training: Text,
    /// What it is only measured on.
    pub held_out: Text,
}

impl Corpus {
    /// Reads every `.txt` file of `directory`, in the order of their names.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or the held-out text overlaps the training text.
    pub fn read(directory: &Path) -> Result<Self, SelftestError> {
        let read_error = |source| SelftestError::Read {
            path: directory.into(),
            source,
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut corpus = Self {
            training: Text::default(),
            held_out: Text::default(),
        };
        for path in paths {
            let text = read_file(&path)?;
            let held_out = path.file_name().is_some_and(|name| name == HELD_OUT_FILE);
            let part = if held_out {
                &mut corpus.held_out
            } else {
                &mut corpus.training
            };
            part.topics.extend(text.topics);
            part.paragraphs.extend(text.paragraphs);
        }
        corpus.check()?;
        Ok(corpus)
    }

    fn check(&self) -> Result<(), SelftestError> {
        let turns = self.training.turns();
        let trained: HashSet<String> = turns.iter().map(|t| plain(&t.question)).collect();
        let answers: HashSet<&str> = turns.iter().map(|t| t.answer.as_str()).collect();
        for turn in self.held_out.turns() {
            if trained.contains(&plain(&turn.question)) {
                return Err(SelftestError::HeldOutInTraining {
                    question: turn.question,
                });
            }
            if !answers.contains(turn.answer.as_str()) {
                return Err(SelftestError::HeldOutAnswerUnknown {
                    answer: turn.answer,
                });
            }
        }
        Ok(())
    }
}

/// A question without case and punctuation: what must not be shared with the held-out text.
fn plain(question: &str) -> String {
    let kept = question
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace());
    kept.collect::<String>()
        .to_lowercase()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn read_file(path: &Path) -> Result<Text, SelftestError> {
    let content = fs::read_to_string(path).map_err(|source| SelftestError::Read {
        path: path.into(),
        source,
    })?;
    parse(&content).map_err(|(line, problem)| SelftestError::Corpus {
        path: PathBuf::from(path),
        line,
        problem,
    })
}

/// Parses one corpus file; an error names the line, from 1.
fn parse(content: &str) -> Result<Text, (usize, CorpusProblem)> {
    let mut text = Text::default();
    let mut questions = Vec::new();
    let mut last_line = 0;
    for (index, line) in content.lines().enumerate() {
        last_line = index + 1;
        let line = line.trim_end();
        if let Some(question) = line.strip_prefix("Q: ") {
            questions.push(question.to_owned());
        } else if let Some(answer) = line.strip_prefix("A: ") {
            if questions.is_empty() {
                return Err((last_line, CorpusProblem::AnswerWithoutQuestion));
            }
            let questions = std::mem::take(&mut questions);
            text.topics.push(Topic {
                questions,
                answer: answer.to_owned(),
            });
        } else if !questions.is_empty() {
            return Err((last_line, CorpusProblem::QuestionWithoutAnswer));
        } else if let Some(paragraph) = line.strip_prefix("P: ") {
            text.paragraphs.push(paragraph.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err((last_line, CorpusProblem::UnknownLine));
        }
    }
    if questions.is_empty() {
        Ok(text)
    } else {
        Err((last_line, CorpusProblem::QuestionWithoutAnswer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_topics_and_paragraphs() {
        let text = parse("# c\nQ: a?\nQ: b?\nA: yes.\n\nP: plain text.\n").unwrap();
        assert_eq!(text.topics.len(), 1);
        assert_eq!(text.turns().len(), 2);
        assert_eq!(text.turns()[1].answer, "yes.");
        assert_eq!(text.paragraphs, ["plain text."]);
    }

    #[test]
    fn refuses_broken_files_with_the_line() {
        assert_eq!(
            parse("A: x"),
            Err((1, CorpusProblem::AnswerWithoutQuestion))
        );
        assert_eq!(
            parse("Q: x\n\nA: y"),
            Err((2, CorpusProblem::QuestionWithoutAnswer))
        );
        assert_eq!(
            parse("Q: x"),
            Err((1, CorpusProblem::QuestionWithoutAnswer))
        );
        assert_eq!(parse("hello"), Err((1, CorpusProblem::UnknownLine)));
    }

    #[test]
    fn held_out_question_in_training_is_refused_whatever_its_case() {
        let corpus = Corpus {
            training: parse("Q: What is it?\nA: A.").unwrap(),
            held_out: parse("Q: what is it\nA: A.").unwrap(),
        };
        assert!(matches!(
            corpus.check(),
            Err(SelftestError::HeldOutInTraining { .. })
        ));
    }

    #[test]
    fn committed_corpus_is_sound_and_large() {
        let corpus = Corpus::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
        assert!(corpus.training.topics.len() >= 150);
        assert!(corpus.held_out.turns().len() >= 30);
    }
}
