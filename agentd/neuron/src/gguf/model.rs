//! What the engine relies on in the metadata, checked: keys, types, ranges, ids, tensor bounds.

use std::collections::BTreeMap;

use super::{
    GgufError,
    reader::{Array, Value, code},
    tensor::Tensor,
};

/// Architectures that mistral.rs 0.8.1 loads from GGUF and computes on a CPU. `qwen3moe` is not among
/// them: its kernel for several experts does not exist for CPUs and panics.
pub(super) const ARCHITECTURES: [&str; 7] = [
    "llama",
    "mistral3",
    "phi2",
    "phi3",
    "qwen2",
    "qwen3",
    "starcoder2",
];

/// What the rest of the program wants to know about a model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub architecture: String,
    /// Context length the model was made for, in tokens.
    pub context_tokens: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u32,
    /// Id of the end-of-sequence token.
    pub eos_token: u32,
    /// Whether the file brings a chat template.
    pub chat_template: bool,
    /// Size of all weights.
    pub weights_bytes: u64,
}

type Metadata<'a> = BTreeMap<&'a str, Value<'a>>;

/// The checks that need the whole header. `position` is where the tensor list ends.
pub(super) fn check(
    metadata: &Metadata<'_>,
    tensors: &BTreeMap<&str, Tensor>,
    position: usize,
    file_bytes: u64,
) -> Result<Header, GgufError> {
    let architecture = text(metadata, "general.architecture")?;
    if !ARCHITECTURES.contains(&architecture) {
        return Err(GgufError::Architecture {
            name: architecture.to_owned(),
        });
    }
    if let Some(parts) = metadata.get("split.count") {
        let parts = unsigned("split.count", parts)?;
        if parts > 1 {
            return Err(GgufError::Split(parts));
        }
    }
    let (context_tokens, layers) = shape(metadata, architecture)?;
    let (vocabulary, eos_token) = tokenizer(metadata)?;
    let weights_bytes = data(metadata, tensors, position, file_bytes)?;
    embedding(tensors, vocabulary)?;
    let chat_template = match metadata.get("tokenizer.chat_template") {
        Some(Value::String(template)) => !template.is_empty(),
        Some(_) => return Err(wrong_type("tokenizer.chat_template", "a string")),
        None => false,
    };
    let architecture = architecture.to_owned();
    let header = Header {
        architecture,
        context_tokens,
        layers,
        vocabulary,
        eos_token,
        chat_template,
        weights_bytes,
    };
    Ok(header)
}

/// Context length and layers, after checking the sizes that tables are allocated by.
fn shape(metadata: &Metadata<'_>, architecture: &str) -> Result<(u32, u32), GgufError> {
    let number = |name: &str, min: u32, max: u32| {
        range(metadata, &format!("{architecture}.{name}"), min, max)
    };
    let context_tokens = number("context_length", 1, 1 << 20)?;
    let layers = number("block_count", 1, 1024)?;
    let heads = number("attention.head_count", 1, 4096)?;
    number("attention.head_count_kv", 1, heads)?;
    number("embedding_length", heads, 1 << 17)?;
    for name in [
        "rope.dimension_count",
        "attention.key_length",
        "attention.value_length",
    ] {
        if metadata.contains_key(format!("{architecture}.{name}").as_str()) {
            number(name, 1, 4096)?;
        }
    }
    Ok((context_tokens, layers))
}

/// Vocabulary size and end-of-sequence id, after checking every list and id the tokenizer is built from.
fn tokenizer(metadata: &Metadata<'_>) -> Result<(u32, u32), GgufError> {
    let model = text(metadata, "tokenizer.ggml.model")?;
    let tokens = list(
        metadata,
        "tokenizer.ggml.tokens",
        code::STRING,
        "a list of strings",
    )?;
    let too_many = GgufError::Limit {
        what: "tokens",
        value: tokens.count,
        limit: u64::from(u32::MAX),
    };
    let vocabulary = u32::try_from(tokens.count).map_err(|_| too_many)?;
    let same_length = |what: &'static str, entry_type, expected| {
        let entries = list(metadata, what, entry_type, expected)?;
        if entries.count != tokens.count {
            let (value, vocabulary) = (entries.count, tokens.count);
            return Err(GgufError::Vocabulary {
                what,
                value,
                vocabulary,
            });
        }
        Ok(())
    };
    match model {
        "llama" | "replit" => same_length(
            "tokenizer.ggml.scores",
            code::F32,
            "a list of 32-bit floats",
        )?,
        "gpt2" => merges(metadata)?,
        name => {
            return Err(GgufError::Tokenizer {
                name: name.to_owned(),
            });
        }
    }
    if metadata.contains_key("tokenizer.ggml.token_type") {
        same_length(
            "tokenizer.ggml.token_type",
            code::I32,
            "a list of 32-bit integers",
        )?;
    }
    let Some(last) = vocabulary.checked_sub(1) else {
        return Err(GgufError::Vocabulary {
            what: "tokenizer.ggml.tokens",
            value: 0,
            vocabulary: 0,
        });
    };
    for key in [
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.unknown_token_id",
    ] {
        if metadata.contains_key(key) {
            range(metadata, key, 0, last)?;
        }
    }
    let eos_token = range(metadata, "tokenizer.ggml.eos_token_id", 0, last)?;
    Ok((vocabulary, eos_token))
}

fn merges(metadata: &Metadata<'_>) -> Result<(), GgufError> {
    let merges = list(
        metadata,
        "tokenizer.ggml.merges",
        code::STRING,
        "a list of strings",
    )?;
    for (index, merge) in (0..).zip(merges.strings()) {
        if !merge.contains(&b' ') {
            return Err(GgufError::Merge { index });
        }
    }
    Ok(())
}

/// Checks that all tensor data lies in the file; returns its size.
fn data(
    metadata: &Metadata<'_>,
    tensors: &BTreeMap<&str, Tensor>,
    position: usize,
    file_bytes: u64,
) -> Result<u64, GgufError> {
    let key = "general.alignment";
    let alignment = match metadata.get(key) {
        None => 32,
        Some(_) => u64::from(range(metadata, key, 1, 1 << 16)?),
    };
    let start = (position as u64).next_multiple_of(alignment);
    let mut total = 0u64;
    for (name, tensor) in tensors {
        let end = start
            .checked_add(tensor.offset)
            .and_then(|at| at.checked_add(tensor.bytes));
        if end.is_none_or(|end| end > file_bytes) {
            let end = end.unwrap_or(u64::MAX);
            return Err(GgufError::TensorBounds {
                tensor: (*name).to_owned(),
                end,
                file_bytes,
            });
        }
        // Each tensor is inside the file, but many could overlap and be loaded many times over.
        total = total.saturating_add(tensor.bytes);
    }
    if total > file_bytes {
        return Err(GgufError::Limit {
            what: "weights in bytes",
            value: total,
            limit: file_bytes,
        });
    }
    Ok(total)
}

/// The engine looks tokens up in this table and decodes every row of the output by the token list.
fn embedding(tensors: &BTreeMap<&str, Tensor>, vocabulary: u32) -> Result<(), GgufError> {
    let check = |name: &'static str, tensor: &Tensor| {
        let rows = tensor.dimensions.get(1).copied().unwrap_or(1);
        if rows == u64::from(vocabulary) {
            return Ok(());
        }
        let vocabulary = u64::from(vocabulary);
        Err(GgufError::Vocabulary {
            what: name,
            value: rows,
            vocabulary,
        })
    };
    let name = "token_embd.weight";
    check(
        name,
        tensors
            .get(name)
            .ok_or(GgufError::NoTensor { tensor: name })?,
    )?;
    tensors
        .get("output.weight")
        .map_or(Ok(()), |tensor| check("output.weight", tensor))
}

fn get<'m, 'a>(metadata: &'m Metadata<'a>, key: &str) -> Result<&'m Value<'a>, GgufError> {
    metadata.get(key).ok_or_else(|| GgufError::Missing {
        key: key.to_owned(),
    })
}

fn wrong_type(key: &str, expected: &'static str) -> GgufError {
    GgufError::WrongType {
        key: key.to_owned(),
        expected,
    }
}

fn text<'a>(metadata: &Metadata<'a>, key: &str) -> Result<&'a str, GgufError> {
    match get(metadata, key)? {
        Value::String(bytes) => std::str::from_utf8(bytes).map_err(|_| wrong_type(key, "text")),
        _ => Err(wrong_type(key, "a string")),
    }
}

fn list<'m, 'a>(
    metadata: &'m Metadata<'a>,
    key: &str,
    entry_type: u32,
    expected: &'static str,
) -> Result<&'m Array<'a>, GgufError> {
    match get(metadata, key)? {
        Value::Array(array) if array.entry_type == entry_type => Ok(array),
        _ => Err(wrong_type(key, expected)),
    }
}

fn unsigned(key: &str, value: &Value<'_>) -> Result<u64, GgufError> {
    match value {
        Value::U32(value) => Ok(u64::from(*value)),
        Value::U64(value) => Ok(*value),
        Value::String(_) | Value::Array(_) | Value::Other => {
            Err(wrong_type(key, "an unsigned 32- or 64-bit integer"))
        }
    }
}

fn range(metadata: &Metadata<'_>, key: &str, min: u32, max: u32) -> Result<u32, GgufError> {
    let value = unsigned(key, get(metadata, key)?)?;
    let outside = || {
        let (min, max) = (u64::from(min), u64::from(max));
        GgufError::Range {
            key: key.to_owned(),
            value,
            min,
            max,
        }
    };
    let number = u32::try_from(value).map_err(|_| outside())?;
    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(outside())
    }
}
