//! A model directory: `model.gguf` and `model.json`, checked before the engine reads them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::gguf::{self, GgufError, Header};

/// File name of the weights.
pub const WEIGHTS: &str = "model.gguf";
/// File name of the description.
pub const DESCRIPTION: &str = "model.json";
/// File name of a chat template that replaces the one in the weights file. The engine panics on any
/// other ending than `.jinja` and `.json`.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// `model.json`, as far as the engine needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Description {
    /// Name in `/v1/models`.
    pub name: String,
    /// Whether the model only proves that the node works.
    #[serde(default)]
    pub self_test: bool,
    /// Context length to serve, in tokens; not more than the model was made for.
    pub context_tokens: u32,
    /// SHA-256 of the weights file, lower-case hex.
    pub sha256: String,
}

/// A directory whose files are what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDir {
    /// The directory.
    pub path: PathBuf,
    /// `model.json`.
    pub description: Description,
    /// Header of `model.gguf`.
    pub header: Header,
    /// Size of `model.gguf`.
    pub file_bytes: u64,
    /// The chat template beside the weights, if there is one.
    pub chat_template: Option<PathBuf>,
}

/// Why a model directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelDirError {
    /// A file is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `model.json` is not what it should be.
    #[error("{} is not a model description", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The weights are not those the description was written for.
    #[error("{} has SHA-256 {actual}, model.json says {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// From model.json.
        expected: String,
        /// Of the file.
        actual: String,
    },
    /// The header check failed.
    #[error("{} cannot be served", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: GgufError,
    },
    /// The description promises more context than the model has.
    #[error("model.json says {described} tokens of context, the model has {possible}")]
    Context {
        /// From model.json.
        described: u32,
        /// From the weights file.
        possible: u32,
    },
}

impl ModelDir {
    /// Reads and checks the directory. Takes as long as reading the weights once.
    ///
    /// # Errors
    /// [`ModelDirError`]; nothing in the directory may be given to the engine.
    pub fn open(path: &Path) -> Result<Self, ModelDirError> {
        let description = description(&path.join(DESCRIPTION))?;
        let weights = path.join(WEIGHTS);
        let read_error = |source| ModelDirError::Read {
            path: weights.clone(),
            source,
        };
        let mut file = File::open(&weights).map_err(read_error)?;
        let file_bytes = file.metadata().map_err(read_error)?.len();
        let (head, actual) = digest(&mut file).map_err(read_error)?;
        if actual != description.sha256 {
            let expected = description.sha256;
            return Err(ModelDirError::Digest {
                path: weights,
                expected,
                actual,
            });
        }
        let header = gguf::parse(&head, file_bytes).map_err(|source| ModelDirError::Header {
            path: weights,
            source,
        })?;
        let (described, possible) = (description.context_tokens, header.context_tokens);
        if described == 0 || described > possible {
            return Err(ModelDirError::Context {
                described,
                possible,
            });
        }
        let chat_template = Some(path.join(CHAT_TEMPLATE)).filter(|path| path.is_file());
        Ok(Self {
            path: path.to_owned(),
            description,
            header,
            file_bytes,
            chat_template,
        })
    }
}

fn description(path: &Path) -> Result<Description, ModelDirError> {
    let text = fs::read_to_string(path).map_err(|source| ModelDirError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ModelDirError::Description {
        path: path.to_owned(),
        source,
    })
}

/// The first [`gguf::MAX_HEADER_BYTES`] and the SHA-256 of the whole, in one pass.
fn digest(file: &mut impl Read) -> io::Result<(Vec<u8>, String)> {
    let mut head = Vec::new();
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = &buffer[..count];
        sha256.update(bytes);
        let room = gguf::MAX_HEADER_BYTES - head.len();
        head.extend_from_slice(&bytes[..count.min(room)]);
    }
    let hex = sha256
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((head, hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256() {
        // FIPS 180-2, appendix B.1.
        let (head, hex) = digest(&mut b"abc".as_slice()).unwrap();
        assert_eq!(head, b"abc");
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_description_may_say_more_than_we_read() {
        let json = r#"{"name":"m","self_test":true,"context_tokens":512,"sha256":"00",
                       "description":"d","license":"Apache-2.0","self_test_cases":[]}"#;
        let description: Description = serde_json::from_str(json).unwrap();
        assert_eq!(
            (description.context_tokens, description.self_test),
            (512, true)
        );
    }

    #[test]
    fn a_missing_directory_is_an_error_and_no_download() {
        let error = ModelDir::open(Path::new("/nonexistent/model")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read /nonexistent/model/model.json"
        );
    }
}
