//! The header parser on good, cut, lying and random headers.

use proptest::prelude::*;

use super::{GgufError, Header, parse};

/// Builds a header key by key.
#[derive(Clone)]
struct Builder {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn u32_value(value: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), value.to_le_bytes()].concat()
}

fn string_value(text: &str) -> Vec<u8> {
    [8u32.to_le_bytes().to_vec(), string(text)].concat()
}

fn strings_value(texts: &[&str]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    bytes.extend_from_slice(&(texts.len() as u64).to_le_bytes());
    texts.iter().for_each(|text| bytes.extend(string(text)));
    bytes
}

impl Builder {
    /// A model of one layer, 32 wide, with three tokens.
    fn valid() -> Self {
        let mut builder = Self {
            keys: Vec::new(),
            tensors: Vec::new(),
        };
        builder.set("general.architecture", string_value("llama"));
        for (key, value) in [
            ("context_length", 512),
            ("block_count", 1),
            ("embedding_length", 32),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("rope.dimension_count", 8),
        ] {
            builder.set(&format!("llama.{key}"), u32_value(value));
        }
        builder.set("tokenizer.ggml.model", string_value("gpt2"));
        builder.set("tokenizer.ggml.tokens", strings_value(&["a", "b", "ab"]));
        builder.set("tokenizer.ggml.merges", strings_value(&["a b"]));
        builder.set("tokenizer.ggml.eos_token_id", u32_value(2));
        builder
            .tensors
            .push(("token_embd.weight".into(), vec![32, 3], 8, 0));
        builder
    }

    fn set(&mut self, key: &str, value: Vec<u8>) {
        self.remove(key);
        self.keys.push((key.to_owned(), value));
    }

    fn remove(&mut self, key: &str) {
        self.keys.retain(|(name, _)| name != key);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend_from_slice(&3u32.to_le_bytes());
        bytes.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(string(key));
            bytes.extend(value);
        }
        for (name, dimensions, code, offset) in &self.tensors {
            bytes.extend(string(name));
            bytes.extend(u32::try_from(dimensions.len()).unwrap().to_le_bytes());
            dimensions
                .iter()
                .for_each(|d| bytes.extend(d.to_le_bytes()));
            bytes.extend(code.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes
    }

    fn parse(&self) -> Result<Header, GgufError> {
        let bytes = self.bytes();
        parse(&bytes, bytes.len() as u64 + 32 + 102)
    }

    fn with(key: &str, value: Vec<u8>) -> Result<Header, GgufError> {
        let mut builder = Self::valid();
        builder.set(key, value);
        builder.parse()
    }
}

#[test]
fn a_valid_header_gives_context_and_vocabulary() {
    let header = Builder::valid().parse().unwrap();
    assert_eq!(
        (header.context_tokens, header.vocabulary, header.layers),
        (512, 3, 1)
    );
    assert_eq!((header.eos_token, header.weights_bytes), (2, 102));
    assert!(!header.chat_template);
}

#[test]
fn every_cut_is_truncated_and_nothing_else() {
    let bytes = Builder::valid().bytes();
    for cut in 0..bytes.len() {
        let result = parse(&bytes[..cut], bytes.len() as u64);
        assert!(
            matches!(result, Err(GgufError::Truncated { .. })),
            "cut at {cut}: {result:?}"
        );
    }
}

#[test]
fn giant_lengths_are_refused_without_allocating() {
    let giant_string = [8u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
    assert!(matches!(
        Builder::with("x", giant_string),
        Err(GgufError::Truncated { .. })
    ));
    let mut giant_array = [9u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    giant_array.extend(u64::MAX.to_le_bytes());
    assert!(matches!(
        Builder::with("x", giant_array),
        Err(GgufError::Limit { .. })
    ));
    let mut counts = b"GGUF".to_vec();
    counts.extend(3u32.to_le_bytes());
    counts.extend(u64::MAX.to_le_bytes());
    assert!(matches!(
        parse(&counts, 1 << 40),
        Err(GgufError::Limit { .. })
    ));
}

#[test]
fn keys_the_engine_indexes_must_exist() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.attention.head_count_kv",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.eos_token_id",
    ] {
        let mut builder = Builder::valid();
        builder.remove(key);
        assert_eq!(
            builder.parse(),
            Err(GgufError::Missing {
                key: key.to_owned()
            })
        );
    }
}

#[test]
fn token_ids_outside_the_vocabulary_are_refused() {
    for key in ["eos_token_id", "bos_token_id", "unknown_token_id"] {
        let result = Builder::with(&format!("tokenizer.ggml.{key}"), u32_value(3));
        assert!(
            matches!(
                result,
                Err(GgufError::Range {
                    value: 3,
                    max: 2,
                    ..
                })
            ),
            "{result:?}"
        );
    }
}

#[test]
fn zero_heads_and_giant_contexts_are_refused() {
    for (key, value) in [
        ("attention.head_count", 0),
        ("attention.head_count_kv", 0),
        ("block_count", 0),
        ("block_count", 100_000),
        ("context_length", u32::MAX),
    ] {
        let result = Builder::with(&format!("llama.{key}"), u32_value(value));
        assert!(
            matches!(result, Err(GgufError::Range { .. })),
            "{key}: {result:?}"
        );
    }
}

#[test]
fn unsupported_models_are_named() {
    let result = Builder::with("general.architecture", string_value("gemma3"));
    assert_eq!(
        result,
        Err(GgufError::Architecture {
            name: "gemma3".into()
        })
    );
    let result = Builder::with("general.architecture", string_value("qwen3moe"));
    assert_eq!(
        result,
        Err(GgufError::Architecture {
            name: "qwen3moe".into()
        })
    );
    let result = Builder::with("tokenizer.ggml.model", string_value("bert"));
    assert_eq!(
        result,
        Err(GgufError::Tokenizer {
            name: "bert".into()
        })
    );
    let mut builder = Builder::valid();
    builder.tensors.push(("blk.0.x".into(), vec![256], 16, 0));
    assert_eq!(
        builder.parse(),
        Err(GgufError::TensorType {
            tensor: "blk.0.x".into(),
            code: 16
        })
    );
    assert_eq!(
        Builder::with("split.count", u32_value(3)),
        Err(GgufError::Split(3))
    );
    let mut old = Builder::valid().bytes();
    old[4] = 1;
    assert_eq!(parse(&old, 1 << 20), Err(GgufError::Version(1)));
}

#[test]
fn tensors_must_lie_inside_the_file() {
    let mut builder = Builder::valid();
    builder.tensors[0].3 = 4096;
    assert!(matches!(
        builder.parse(),
        Err(GgufError::TensorBounds { .. })
    ));
    builder.tensors[0].3 = u64::MAX;
    assert!(matches!(
        builder.parse(),
        Err(GgufError::TensorBounds { end: u64::MAX, .. })
    ));
    for dimensions in [
        vec![0, 3],
        vec![31, 3],
        vec![32, u64::MAX],
        vec![u64::MAX, u64::MAX],
    ] {
        builder.tensors[0].1 = dimensions;
        assert!(matches!(
            builder.parse(),
            Err(GgufError::TensorShape { .. })
        ));
    }
}

#[test]
fn overlapping_tensors_cannot_multiply_the_file() {
    let mut builder = Builder::valid();
    for index in 0..100 {
        builder
            .tensors
            .push((format!("blk.{index}.x"), vec![32, 3], 8, 0));
    }
    assert!(matches!(
        builder.parse(),
        Err(GgufError::Limit {
            what: "weights in bytes",
            ..
        })
    ));
}

#[test]
fn embedding_and_vocabulary_must_agree() {
    let mut builder = Builder::valid();
    builder.tensors[0].1 = vec![32, 2];
    assert!(matches!(
        builder.parse(),
        Err(GgufError::Vocabulary {
            value: 2,
            vocabulary: 3,
            ..
        })
    ));
    builder.tensors.clear();
    assert!(matches!(builder.parse(), Err(GgufError::NoTensor { .. })));
}

#[test]
fn duplicates_bad_merges_and_zero_alignment_are_refused() {
    let mut builder = Builder::valid();
    builder
        .keys
        .push(("llama.block_count".into(), u32_value(9)));
    assert_eq!(
        builder.parse(),
        Err(GgufError::Duplicate {
            name: "llama.block_count".into()
        })
    );
    let result = Builder::with("tokenizer.ggml.merges", strings_value(&["a b", "ab"]));
    assert_eq!(result, Err(GgufError::Merge { index: 1 }));
    let result = Builder::with("general.alignment", u32_value(0));
    assert!(matches!(result, Err(GgufError::Range { .. })));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, file_bytes: u64) {
        let _ = parse(&bytes, file_bytes);
        let mut with_magic = b"GGUF\x03\0\0\0".to_vec();
        with_magic.extend(bytes);
        let _ = parse(&with_magic, file_bytes);
    }

    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = Builder::valid().bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = parse(&bytes, bytes.len() as u64 + 134);
    }
}
