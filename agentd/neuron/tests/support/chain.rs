//! Writes a chain model as a GGUF file with its `model.json`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file, gguf_file::Value},
};
use sha2::{Digest, Sha256};

/// Wide enough that random directions hardly overlap.
const WIDTH: usize = 256;
const HEADS: u32 = 4;
/// Bytes, the end-of-sequence token, and one merged token, without which there is no list of merges.
const VOCABULARY: usize = 258;
const EOS: usize = 256;

/// Renders messages as `role:content;` and lets the model continue after the last.
const CHAT_TEMPLATE: &str =
    "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }};{% endfor %}";

/// What follows what, by byte; `None` ends the answer.
pub(crate) struct Chain {
    next: BTreeMap<u8, Option<u8>>,
    broken: Option<u8>,
    context_tokens: u32,
}

impl Chain {
    /// A model whose every token is followed by the next byte value.
    pub(crate) fn new(context_tokens: u32) -> Self {
        Self {
            next: BTreeMap::new(),
            broken: None,
            context_tokens,
        }
    }

    /// Each byte of `text` is followed by the next one; no byte may occur twice.
    pub(crate) fn text(mut self, text: &str) -> Self {
        for pair in text.as_bytes().windows(2) {
            assert!(
                self.next.insert(pair[0], Some(pair[1])).is_none(),
                "{pair:?} has a successor"
            );
        }
        self
    }

    /// The answer ends after this byte.
    pub(crate) fn end(mut self, last: u8) -> Self {
        self.next.insert(last, None);
        self
    }

    /// Computing with this byte gives nothing that can be sampled from.
    pub(crate) fn broken(mut self, byte: u8) -> Self {
        self.broken = Some(byte);
        self
    }

    fn successor(&self, token: usize) -> usize {
        let Ok(byte) = u8::try_from(token) else {
            return EOS;
        };
        match self.next.get(&byte) {
            Some(Some(next)) => usize::from(*next),
            Some(None) => EOS,
            None => usize::from(byte.wrapping_add(1)),
        }
    }

    /// Writes `model.gguf` and `model.json`.
    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        let weights = dir.join("model.gguf");
        write_gguf(&weights, &self.metadata(), &self.tensors());
        describe(dir, self.context_tokens);
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let width = u32::try_from(WIDTH).unwrap();
        let mut metadata = vec![
            (
                "general.architecture".to_owned(),
                Value::String("llama".into()),
            ),
            (
                "llama.attention.layer_norm_rms_epsilon".into(),
                Value::F32(1e-5),
            ),
            (
                "tokenizer.chat_template".into(),
                Value::String(CHAT_TEMPLATE.into()),
            ),
        ];
        for (key, value) in [
            ("context_length", self.context_tokens),
            ("block_count", 1),
            ("embedding_length", width),
            ("feed_forward_length", 32),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", HEADS),
            ("rope.dimension_count", width / HEADS),
        ] {
            metadata.push((format!("llama.{key}"), Value::U32(value)));
        }
        let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
        tokens.extend(["<|end|>".into(), "QQ".into()]);
        metadata.extend(tokenizer(&tokens, &["Q Q".into()], EOS));
        metadata
    }

    fn tensors(&self) -> Vec<(String, QTensor)> {
        let directions: Vec<Vec<f32>> = (0..VOCABULARY).map(direction).collect();
        let mut output = vec![0f32; VOCABULARY * WIDTH];
        for (token, direction) in directions.iter().enumerate() {
            let row = self.successor(token) * WIDTH;
            output[row..row + WIDTH]
                .iter_mut()
                .zip(direction)
                .for_each(|(o, d)| *o += d);
        }
        let mut embedding = directions.concat();
        if let Some(byte) = self.broken {
            embedding[usize::from(byte) * WIDTH] = f32::NAN;
        }
        let mut tensors = vec![
            tensor("token_embd.weight", embedding, &[VOCABULARY, WIDTH]),
            tensor("output.weight", output, &[VOCABULARY, WIDTH]),
            tensor("output_norm.weight", vec![1.0; WIDTH], &[WIDTH]),
            tensor("blk.0.attn_norm.weight", vec![1.0; WIDTH], &[WIDTH]),
            tensor("blk.0.ffn_norm.weight", vec![1.0; WIDTH], &[WIDTH]),
        ];
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            let name = format!("blk.0.{name}.weight");
            tensors.push(tensor(&name, vec![0.0; WIDTH * WIDTH], &[WIDTH, WIDTH]));
        }
        for (name, shape) in [
            ("gate", [32, WIDTH]),
            ("up", [32, WIDTH]),
            ("down", [WIDTH, 32]),
        ] {
            let name = format!("blk.0.ffn_{name}.weight");
            tensors.push(tensor(&name, vec![0.0; 32 * WIDTH], &shape));
        }
        tensors
    }
}

/// Plus and minus one, from a small generator: the same on every machine.
fn direction(token: usize) -> Vec<f32> {
    let mut state = (token as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state >> 63 == 0 { 1.0 } else { -1.0 }
    };
    (0..WIDTH).map(|_| next()).collect()
}

fn tensor(name: &str, values: Vec<f32>, shape: &[usize]) -> (String, QTensor) {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    (
        name.to_owned(),
        QTensor::quantize(&tensor, GgmlDType::F32).unwrap(),
    )
}

/// Metadata of a byte-level BPE tokenizer.
pub(crate) fn tokenizer(tokens: &[String], merges: &[String], eos: usize) -> Vec<(String, Value)> {
    let strings =
        |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    let types = (0..tokens.len())
        .map(|id| Value::I32(if id == eos { 3 } else { 1 }))
        .collect();
    [
        ("model", Value::String("gpt2".into())),
        ("pre", Value::String("default".into())),
        ("tokens", strings(tokens)),
        ("merges", strings(merges)),
        ("token_type", Value::Array(types)),
        ("eos_token_id", Value::U32(u32::try_from(eos).unwrap())),
    ]
    .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
    .into()
}

/// GPT-2's letter for a byte: printable ones stand for themselves, the rest for U+0100 onwards.
pub(crate) fn byte_char(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !itself(*byte)).count();
    char::from_u32(0x100 + u32::try_from(before).unwrap()).unwrap()
}

/// Writes a GGUF file.
pub(crate) fn write_gguf(path: &Path, metadata: &[(String, Value)], tensors: &[(String, QTensor)]) {
    let metadata: Vec<_> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = File::create(path).unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

/// Writes `model.json` for the `model.gguf` beside it.
pub(crate) fn describe(dir: &Path, context_tokens: u32) {
    let bytes = fs::read(dir.join("model.gguf")).unwrap();
    let sha256: String = Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let json = serde_json::json!({
        "name": "test-model", "self_test": false, "description": "test",
        "context_tokens": context_tokens, "sha256": sha256, "license": "Apache-2.0",
        "self_test_cases": [],
    });
    fs::write(dir.join("model.json"), json.to_string()).unwrap();
}
