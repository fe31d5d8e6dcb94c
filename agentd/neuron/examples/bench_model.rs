//! Writes the model that `cargo node bench` measures engines with: random weights, real sizes.
//!
//! `bench_model DIR [q8_0|q4_0]` writes `DIR/model.gguf` and `DIR/model.json`: a Llama of 24 layers,
//! 1024 wide, feed-forward 2816, 16 heads, 8 KV heads, vocabulary 8192. mistral.rs and llama.cpp both
//! read it. The text it generates means nothing; its speed is that of any 0.3 B model.

#![expect(
    clippy::unwrap_used,
    reason = "a tool of the bench, not of the node; a panic names the line"
)]

#[path = "../tests/support/chain.rs"]
#[expect(dead_code, reason = "shares the GGUF writer with the tests")]
mod chain;

use std::{env, fs, path::Path};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file::Value},
};

const LAYERS: u32 = 24;
const WIDTH: usize = 1024;
const FEED_FORWARD: usize = 2816;
const HEADS: u32 = 16;
const KV_HEADS: u32 = 8;
const KV_WIDTH: usize = 512;
const VOCABULARY: usize = 8192;
const CONTEXT_TOKENS: u32 = 4096;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (dir, quantization) = match arguments.as_slice() {
        [dir] => (dir, GgmlDType::Q8_0),
        [dir, name] if name == "q8_0" => (dir, GgmlDType::Q8_0),
        [dir, name] if name == "q4_0" => (dir, GgmlDType::Q4_0),
        _ => panic!("usage: bench_model DIR [q8_0|q4_0]"),
    };
    let dir = Path::new(dir);
    fs::create_dir_all(dir).unwrap();
    chain::write_gguf(&dir.join("model.gguf"), &metadata(), &tensors(quantization));
    chain::describe(dir, CONTEXT_TOKENS);
}

fn metadata() -> Vec<(String, Value)> {
    let mut metadata = vec![
        (
            "general.architecture".to_owned(),
            Value::String("llama".into()),
        ),
        (
            "general.name".into(),
            Value::String("bench-0.3b-random".into()),
        ),
        (
            "llama.attention.layer_norm_rms_epsilon".into(),
            Value::F32(1e-5),
        ),
        ("llama.rope.freq_base".into(), Value::F32(10_000.0)),
    ];
    for (key, value) in [
        ("context_length", CONTEXT_TOKENS),
        ("block_count", LAYERS),
        ("embedding_length", u32::try_from(WIDTH).unwrap()),
        ("feed_forward_length", u32::try_from(FEED_FORWARD).unwrap()),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("rope.dimension_count", 64),
        ("vocab_size", u32::try_from(VOCABULARY).unwrap()),
    ] {
        metadata.push((format!("llama.{key}"), Value::U32(value)));
    }
    let (tokens, merges) = vocabulary();
    metadata.extend(chain::tokenizer(&tokens, &merges, 256));
    metadata
}

/// 256 bytes, an end, and pairs of printable bytes up to the wanted size.
fn vocabulary() -> (Vec<String>, Vec<String>) {
    let mut tokens: Vec<String> = (0..=255)
        .map(|byte| chain::byte_char(byte).to_string())
        .collect();
    tokens.push("<|end|>".into());
    let printable = || (b'!'..=b'~').map(char::from);
    let pairs = printable().flat_map(|a| printable().map(move |b| (a, b)));
    let pairs: Vec<_> = pairs.take(VOCABULARY - tokens.len()).collect();
    tokens.extend(pairs.iter().map(|(a, b)| format!("{a}{b}")));
    (
        tokens,
        pairs.iter().map(|(a, b)| format!("{a} {b}")).collect(),
    )
}

fn tensors(quantization: GgmlDType) -> Vec<(String, QTensor)> {
    let mut seed = 0;
    let mut matrix = |name: String, rows: usize, columns: usize| {
        seed += 1;
        let tensor = Tensor::from_vec(noise(seed, rows * columns), (rows, columns), &Device::Cpu);
        (
            name,
            QTensor::quantize(&tensor.unwrap(), quantization).unwrap(),
        )
    };
    let norm = |name: String| {
        let tensor = Tensor::ones(WIDTH, candle_core::DType::F32, &Device::Cpu).unwrap();
        (name, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
    };
    let mut tensors = vec![
        matrix("token_embd.weight".into(), VOCABULARY, WIDTH),
        matrix("output.weight".into(), VOCABULARY, WIDTH),
        norm("output_norm.weight".into()),
    ];
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        tensors.extend([norm(name("attn_norm")), norm(name("ffn_norm"))]);
        for (part, rows, columns) in [
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", KV_WIDTH, WIDTH),
            ("attn_v", KV_WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FEED_FORWARD, WIDTH),
            ("ffn_up", FEED_FORWARD, WIDTH),
            ("ffn_down", WIDTH, FEED_FORWARD),
        ] {
            tensors.push(matrix(name(part), rows, columns));
        }
    }
    tensors
}

/// Uniform in ±0.05, the size of weights that keep activations near 1 at this width.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from(i16::try_from(state >> 49).unwrap_or(0)) / 32768.0 * 0.1 - 0.05
    };
    (0..count).map(|_| next()).collect()
}
