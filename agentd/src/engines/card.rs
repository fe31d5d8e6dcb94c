//! `model.json`: what a model directory says of itself.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest `model.json` that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A model's card.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Card {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) self_test: bool,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) context_tokens: Option<u32>,
    #[serde(default)]
    pub(crate) self_test_cases: Vec<Case>,
}

/// A prompt whose greedy answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Case {
    pub(crate) prompt: String,
    pub(crate) answer: String,
    pub(crate) max_tokens: u32,
}

/// Why a card is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a model card", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Card {
    /// The card in `directory`; `None` when there is none.
    pub(crate) fn read(directory: &Path) -> Result<Option<Card>, CardError> {
        let path = directory.join("model.json");
        let mut text = String::new();
        let read =
            File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CardError::Read { path, source }),
            Ok(_) => {}
        }
        match serde_json::from_str(&text) {
            Ok(card) => Ok(Some(card)),
            Err(source) => Err(CardError::Parse { path, source }),
        }
    }
}
