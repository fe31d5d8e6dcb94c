//! A bounded parser of GGUF headers, run before the engine sees a model file.
//!
//! The engine's own reader allocates whatever lengths the file announces and indexes by ids the file
//! gives. So every length, id and key that it relies on is checked here first, on a byte slice, with
//! limits; what passes is small enough and consistent. Layout (little-endian, version 2 and 3):
//!
//! ```text
//! "GGUF" | u32 version | u64 tensors | u64 key-values
//! key-value: string key | u32 type | value          string: u64 length | bytes
//! tensor:    string name | u32 dims | u64 x dims | u32 type | u64 offset
//! padding to `general.alignment`, then the tensor data
//! ```
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod model;
mod reader;
mod tensor;

pub use model::Header;

use reader::Reader;

/// Header bytes we read at most; the largest vocabularies in use take about 15 MiB.
pub const MAX_HEADER_BYTES: usize = 64 * 1024 * 1024;

/// Why a file is not a model that this engine can load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The file ends, or the header limit is reached, inside the header.
    #[error("the header ends early: {needed} bytes are announced at byte {at}, {left} are there")]
    Truncated {
        /// Where the missing bytes should start.
        at: usize,
        /// How many are announced.
        needed: u64,
        /// How many there are.
        left: usize,
    },
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file")]
    Magic,
    /// Version 1 has other field widths; later ones do not exist yet.
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    Version(u32),
    /// A count is beyond what any real model has.
    #[error("{what}: {value} exceeds the limit of {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The announced value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A key or tensor name that is not UTF-8, empty, or contains NUL.
    #[error("a name at byte {at} is not valid text")]
    Name {
        /// Where it starts.
        at: usize,
    },
    /// Readers disagree about which of two equal names counts.
    #[error("{name} appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A value type that does not exist, or an array of arrays.
    #[error("value type {code} at byte {at} is not supported")]
    ValueType {
        /// The type code in the file.
        code: u32,
        /// Where it stands.
        at: usize,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("boolean at byte {at} is neither 0 nor 1")]
    Bool {
        /// Where it stands.
        at: usize,
    },
    /// The engine needs this key.
    #[error("metadata key {key} is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A key whose value has another type than the engine reads.
    #[error("metadata key {key} is not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A number outside the range that makes sense.
    #[error("metadata key {key} is {value}, outside {min} to {max}")]
    Range {
        /// The key.
        key: String,
        /// Its value.
        value: u64,
        /// Smallest accepted value.
        min: u64,
        /// Largest accepted value.
        max: u64,
    },
    /// An architecture the engine has no GGUF loader for on a CPU.
    #[error("architecture {name} is not supported ({})", model::ARCHITECTURES.join(", "))]
    Architecture {
        /// `general.architecture`.
        name: String,
    },
    /// A tokenizer model the engine cannot build.
    #[error("tokenizer model {name} is not supported (llama, replit and gpt2 are)")]
    Tokenizer {
        /// `tokenizer.ggml.model`.
        name: String,
    },
    /// Two lists that must be equally long are not.
    #[error("{what} has {value} entries, the vocabulary {vocabulary}")]
    Vocabulary {
        /// The list.
        what: &'static str,
        /// Its length.
        value: u64,
        /// Number of tokens.
        vocabulary: u64,
    },
    /// A BPE merge that is not two tokens with a space between.
    #[error("merge {index} is not a pair")]
    Merge {
        /// Which merge.
        index: u64,
    },
    /// The file is one part of several.
    #[error("the model is split over {0} files; only single files are supported")]
    Split(u64),
    /// A quantization the engine has no kernel for.
    #[error("tensor {tensor} has type {code}, which is not supported")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The ggml type code.
        code: u32,
    },
    /// Dimensions that are zero, overflow, or do not fill whole blocks.
    #[error("tensor {tensor} has an impossible shape")]
    TensorShape {
        /// The tensor.
        tensor: String,
    },
    /// A tensor whose data is outside the file.
    #[error("tensor {tensor} ends at byte {end}, the file has {file_bytes}")]
    TensorBounds {
        /// The tensor.
        tensor: String,
        /// First byte after its data.
        end: u64,
        /// Size of the file.
        file_bytes: u64,
    },
    /// A tensor that every model has is not there.
    #[error("tensor {tensor} is missing")]
    NoTensor {
        /// The tensor.
        tensor: &'static str,
    },
}

/// Checks the header in `head`, the first bytes of a file of `file_bytes` bytes.
///
/// # Errors
/// [`GgufError`]: the file must not be given to the engine.
pub fn parse(head: &[u8], file_bytes: u64) -> Result<Header, GgufError> {
    let mut reader = Reader::new(head);
    if reader.take(4)? != b"GGUF" {
        return Err(GgufError::Magic);
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensor_count = reader.count("number of tensors", tensor::MAX_TENSORS)?;
    let metadata = reader.metadata()?;
    let tensors = tensor::read(&mut reader, tensor_count)?;
    model::check(&metadata, &tensors, reader.position(), file_bytes)
}

#[cfg(test)]
mod tests;
