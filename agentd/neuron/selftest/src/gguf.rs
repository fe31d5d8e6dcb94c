//! Writes the trained model as a GGUF file: matrices in Q8_0, norms in f32, tokenizer and chat
//! template in the metadata, with the names mistral.rs 0.8.1 and llama.cpp read.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};

use crate::chat::{CHAT_TEMPLATE, SPECIAL_TOKENS};
use crate::error::SelftestError;
use crate::model::Weights;
use crate::shape::Shape;
use crate::tokenizer::{GgufParts, PRE_TOKENIZER_NAME};

/// The model's name, in the file and in `model.json`.
pub const MODEL_NAME: &str = "mnemos-selftest";

/// `general.file_type` of a file that is mostly Q8_0.
const FILE_TYPE_Q8_0: u32 = 7;
/// `tokenizer.ggml.token_type` of ordinary text.
const TOKEN_NORMAL: i32 = 1;
/// `tokenizer.ggml.token_type` of special tokens.
const TOKEN_CONTROL: i32 = 3;

/// Writes `weights` and the tokenizer to `path`.
///
/// # Errors
/// When a tensor cannot be quantized or the file cannot be written.
pub fn write(weights: &Weights, parts: &GgufParts, path: &Path) -> Result<(), SelftestError> {
    let metadata = metadata(weights.shape(), parts);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut tensors = Vec::new();
    for (name, var) in weights.named() {
        let kind = if var.rank() == 1 {
            GgmlDType::F32
        } else {
            GgmlDType::Q8_0
        };
        tensors.push((name.as_str(), QTensor::quantize(var.as_tensor(), kind)?));
    }
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let file = File::create(path).map_err(|source| SelftestError::Write {
        path: path.into(),
        source,
    })?;
    let mut file = BufWriter::new(file);
    gguf_file::write(&mut file, &metadata, &tensors)?;
    file.into_inner().map_err(|error| SelftestError::Write {
        path: path.into(),
        source: error.into_error(),
    })?;
    Ok(())
}

fn metadata(shape: &Shape, parts: &GgufParts) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let count = |n: usize| Value::U32(u32::try_from(n).unwrap_or(u32::MAX));
    let texts = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
    let special = SPECIAL_TOKENS.len();
    let token_type = |id: usize| {
        Value::I32(if id < special {
            TOKEN_CONTROL
        } else {
            TOKEN_NORMAL
        })
    };
    let head_width = shape.head_width;
    vec![
        ("general.architecture", text("llama")),
        ("general.name", text(MODEL_NAME)),
        ("general.license", text("apache-2.0")),
        ("general.file_type", Value::U32(FILE_TYPE_Q8_0)),
        ("general.quantization_version", Value::U32(2)),
        ("llama.vocab_size", count(shape.vocabulary)),
        ("llama.context_length", count(shape.context)),
        ("llama.embedding_length", count(shape.width)),
        ("llama.block_count", count(shape.layers)),
        ("llama.feed_forward_length", count(shape.feed_forward)),
        ("llama.rope.dimension_count", count(head_width)),
        ("llama.rope.freq_base", Value::F32(shape.rope_base)),
        ("llama.attention.head_count", count(shape.heads)),
        ("llama.attention.head_count_kv", count(shape.kv_heads)),
        ("llama.attention.key_length", count(head_width)),
        ("llama.attention.value_length", count(head_width)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(shape.norm_epsilon),
        ),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(PRE_TOKENIZER_NAME)),
        ("tokenizer.ggml.tokens", texts(&parts.tokens)),
        (
            "tokenizer.ggml.token_type",
            Value::Array((0..parts.tokens.len()).map(token_type).collect()),
        ),
        ("tokenizer.ggml.merges", texts(&parts.merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.ggml.padding_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Quantized;
    use crate::tokenizer;

    #[test]
    fn written_file_reads_back_with_the_same_weights_and_metadata() {
        let trained = tokenizer::train(&["the node boots from the stick".to_owned()], 300).unwrap();
        let parts = tokenizer::gguf_parts(&trained).unwrap();
        let shape = Shape {
            layers: 2,
            ..Shape::selftest(parts.tokens.len())
        };
        let weights = Weights::initial(shape, 9).unwrap();
        let path = std::env::temp_dir().join(format!("selftest-{}.gguf", std::process::id()));
        write(&weights, &parts, &path).unwrap();

        let mut file = File::open(&path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        assert_eq!(
            content.metadata["general.architecture"]
                .to_string()
                .unwrap(),
            "llama"
        );
        assert_eq!(
            content.metadata["tokenizer.ggml.tokens"]
                .to_vec()
                .unwrap()
                .len(),
            parts.tokens.len()
        );
        assert_eq!(content.tensor_infos.len(), weights.named().len());
        let device = candle_core::Device::Cpu;
        for (name, var) in weights.named() {
            let read = content.tensor(&mut file, name, &device).unwrap();
            let read = read.dequantize(&device).unwrap();
            let worst = (read - var.as_tensor())
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert!(worst.to_scalar::<f32>().unwrap() < 1e-3, "{name}");
        }
        assert_eq!(*Quantized::read(&path).unwrap().shape(), shape);
        std::fs::remove_file(&path).unwrap();
    }
}
