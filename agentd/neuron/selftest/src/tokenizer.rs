//! The byte-level BPE tokenizer: trained here, stored as `tokenizer.json` and inside the GGUF file.
//! mistral.rs rebuilds a `gpt2` tokenizer from GGUF with a pattern of its own, which is also
//! llama.cpp's `qwen2` one; training uses the same, so that all three cut text alike.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::byte_level::ByteLevel as ByteLevelProcessor;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::chat::SPECIAL_TOKENS;
use crate::error::SelftestError;

/// `tokenizer.ggml.pre` of llama.cpp whose pattern is [`SPLIT`].
pub const PRE_TOKENIZER_NAME: &str = "qwen2";

/// How mistral.rs 0.8.1 cuts text before BPE (`bpe_tokenizer` in its `gguf_tokenizer.rs`).
const SPLIT: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn failed(doing: &'static str) -> impl Fn(Cause) -> SelftestError {
    move |source| SelftestError::Tokenizer { doing, source }
}

/// Wraps a BPE model with the cutting and joining rules of this tokenizer.
fn assemble(model: ModelWrapper) -> Result<Tokenizer, SelftestError> {
    let pattern = SplitPattern::Regex(SPLIT.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(failed("compile the split pattern"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
    ])));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, false, false)));
    tokenizer.with_post_processor(Some(ByteLevelProcessor::new(false, false, false)));
    Ok(tokenizer)
}

/// Trains a tokenizer of at most `vocabulary` tokens on `texts`. The same texts give the same
/// tokenizer.
///
/// # Errors
/// When the library refuses the pattern or the texts.
pub fn train(texts: &[String], vocabulary: usize) -> Result<Tokenizer, SelftestError> {
    let special: Vec<AddedToken> = SPECIAL_TOKENS
        .iter()
        .map(|token| AddedToken::from(*token, true))
        .collect();
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special.clone())
        .initial_alphabet(alphabet.into_iter().collect::<HashSet<char>>())
        .build();
    let mut tokenizer = assemble(ModelWrapper::BPE(BPE::default()))?;
    tokenizer
        .train(
            &mut TrainerWrapper::BpeTrainer(trainer),
            texts.iter().map(String::as_str),
        )
        .map_err(failed("train on the corpus"))?;
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

/// Reads a `tokenizer.json`.
///
/// # Errors
/// When the file cannot be read or is no tokenizer.
pub fn read(path: &Path) -> Result<Tokenizer, SelftestError> {
    Tokenizer::from_file(path).map_err(failed("read tokenizer.json"))
}

/// Writes a `tokenizer.json`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(tokenizer: &Tokenizer, path: &Path) -> Result<(), SelftestError> {
    tokenizer
        .save(path, true)
        .map_err(failed("write tokenizer.json"))
}

/// The ids of `text`; special tokens in it are recognised.
///
/// # Errors
/// When the library refuses the text.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, SelftestError> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(failed("encode text"))?;
    Ok(encoding.get_ids().to_vec())
}

/// The text of `ids`, special tokens left out.
///
/// # Errors
/// When an id is unknown.
pub fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, SelftestError> {
    tokenizer.decode(ids, true).map_err(failed("decode ids"))
}

/// What a GGUF file stores of the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufParts {
    /// Every token in the order of the ids, in GPT-2's printable byte alphabet.
    pub tokens: Vec<String>,
    /// Merges, best first, the two halves separated by a space.
    pub merges: Vec<String>,
}

/// Takes tokens and merges out of a tokenizer.
///
/// # Errors
/// When its JSON form has no vocabulary without gaps, or no merges.
pub fn gguf_parts(tokenizer: &Tokenizer) -> Result<GgufParts, SelftestError> {
    let json = tokenizer
        .to_string(false)
        .map_err(failed("convert to JSON"))?;
    let json: Value = serde_json::from_str(&json).map_err(|source| SelftestError::Json {
        what: "tokenizer.json",
        source,
    })?;
    let missing = |what| SelftestError::TokenizerPart { what };
    let vocabulary = json["model"]["vocab"]
        .as_object()
        .ok_or(missing("vocabulary"))?;
    let mut tokens = vec![None; vocabulary.len()];
    for (token, id) in vocabulary {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let slot = id
            .and_then(|id| tokens.get_mut(id))
            .ok_or(missing("vocabulary"))?;
        *slot = Some(token.clone());
    }
    let tokens: Option<Vec<String>> = tokens.into_iter().collect();
    let merges = json["model"]["merges"]
        .as_array()
        .ok_or(missing("merges"))?;
    let merges: Option<Vec<String>> = merges.iter().map(merge_text).collect();
    Ok(GgufParts {
        tokens: tokens.ok_or(missing("vocabulary"))?,
        merges: merges.ok_or(missing("merges"))?,
    })
}

/// A merge as `left right`; the JSON form holds a pair or, in older files, that text itself.
fn merge_text(merge: &Value) -> Option<String> {
    if let Some(text) = merge.as_str() {
        return Some(text.to_owned());
    }
    Some(format!(
        "{} {}",
        merge.get(0)?.as_str()?,
        merge.get(1)?.as_str()?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::models::bpe::{BpeBuilder, Vocab};

    fn texts() -> Vec<String> {
        vec!["The node boots from a USB stick. The node boots again, in 2026!".to_owned(); 4]
    }

    #[test]
    fn round_trip_keeps_any_text() {
        let tokenizer = train(&texts(), 400).unwrap();
        for text in [
            "The node boots.",
            "  två\nrader\t✓ 123",
            "it's <b>odd</b>  ",
        ] {
            let ids = encode(&tokenizer, text).unwrap();
            assert_eq!(decode(&tokenizer, &ids).unwrap(), text);
        }
    }

    #[test]
    fn special_tokens_have_the_first_ids() {
        let tokenizer = train(&texts(), 400).unwrap();
        let ids = encode(&tokenizer, "<|user|>The node<|assistant|><|end|>").unwrap();
        assert_eq!(ids[0], 1);
        assert_eq!(ids[ids.len() - 2..], [2, 0]);
    }

    #[test]
    fn training_is_repeatable() {
        let json = || train(&texts(), 400).unwrap().to_string(false).unwrap();
        assert_eq!(json(), json());
    }

    #[test]
    fn tokenizer_rebuilt_from_gguf_parts_encodes_alike() {
        let tokenizer = train(&texts(), 400).unwrap();
        let parts = gguf_parts(&tokenizer).unwrap();
        assert_eq!(parts.tokens[..3], SPECIAL_TOKENS.map(str::to_owned));
        let vocabulary: Vec<(String, u32)> = parts.tokens.iter().cloned().zip(0..).collect();
        let merges = parts
            .merges
            .iter()
            .filter_map(|merge| merge.split_once(' '));
        let merges = merges.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let bpe = BpeBuilder::new()
            .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges)
            .build()
            .unwrap();
        let rebuilt = assemble(ModelWrapper::BPE(bpe)).unwrap();
        let text = "The boots of 26 nodes; it's again";
        assert_eq!(
            encode(&rebuilt, text).unwrap(),
            encode(&tokenizer, text).unwrap()
        );
    }
}
