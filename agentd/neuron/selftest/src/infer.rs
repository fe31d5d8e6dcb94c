//! Runs the model from its GGUF file, with candle's quantized kernels as the engine uses them. It
//! knows nothing of training: what it measures is what the file holds.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{D, Device, Module, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_i;

use crate::error::SelftestError;
use crate::shape::{Shape, tensor_name};

struct Layer {
    attention_norm: Tensor,
    query: QMatMul,
    key: QMatMul,
    value: QMatMul,
    output: QMatMul,
    feed_forward_norm: Tensor,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

/// A model read from a GGUF file.
pub struct Quantized {
    shape: Shape,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    cos: Tensor,
    sin: Tensor,
}

/// Keys and values of the tokens seen so far, a pair a layer.
#[derive(Default)]
pub struct Cache(Vec<(Tensor, Tensor)>);

impl Cache {
    fn tokens(&self) -> usize {
        self.0
            .first()
            .and_then(|(key, _)| key.dim(2).ok())
            .unwrap_or(0)
    }
}

impl Quantized {
    /// Reads a GGUF file of the `llama` architecture.
    ///
    /// # Errors
    /// When the file cannot be read or lacks a value or tensor.
    pub fn read(path: &Path) -> Result<Self, SelftestError> {
        let mut file = File::open(path).map_err(|source| SelftestError::Read {
            path: path.into(),
            source,
        })?;
        let content = Content::read(&mut file)?;
        let shape = read_shape(&content)?;
        let mut tensor = |name: &str| content.tensor(&mut file, name, &Device::Cpu);
        let plain = |tensor: QTensor| tensor.dequantize(&Device::Cpu);
        let mut layers = Vec::new();
        for layer in 0..shape.layers {
            let mut part = |part: &str| tensor(&tensor_name(layer, part));
            layers.push(Layer {
                attention_norm: plain(part("attn_norm")?)?,
                query: QMatMul::from_qtensor(part("attn_q")?)?,
                key: QMatMul::from_qtensor(part("attn_k")?)?,
                value: QMatMul::from_qtensor(part("attn_v")?)?,
                output: QMatMul::from_qtensor(part("attn_output")?)?,
                feed_forward_norm: plain(part("ffn_norm")?)?,
                gate: QMatMul::from_qtensor(part("ffn_gate")?)?,
                up: QMatMul::from_qtensor(part("ffn_up")?)?,
                down: QMatMul::from_qtensor(part("ffn_down")?)?,
            });
        }
        let pairs = shape.head_width / 2;
        let angles = Tensor::from_vec(
            shape.rope_angles(shape.context),
            (shape.context, pairs),
            &Device::Cpu,
        )?;
        Ok(Self {
            embedding: plain(tensor("token_embd.weight")?)?,
            output: QMatMul::from_qtensor(tensor("token_embd.weight")?)?,
            norm: plain(tensor("output_norm.weight")?)?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            layers,
            shape,
        })
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Logits `[ids, vocabulary]` after each of `ids`, which follow what `cache` holds.
    ///
    /// # Errors
    /// When an id is out of range or the context is full.
    pub fn forward(&self, ids: &[u32], cache: &mut Cache) -> candle_core::Result<Tensor> {
        let before = cache.tokens();
        let mut x = self
            .embedding
            .index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?
            .unsqueeze(0)?;
        let mask = causal_mask(ids.len(), before)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&x, &layer.attention_norm, self.shape.norm_epsilon)?;
            x = (&x + self.attention(index, &normed, &mask, before, cache)?)?;
            let normed = rms_norm(&x, &layer.feed_forward_norm, self.shape.norm_epsilon)?;
            let inner = (silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&inner)?)?;
        }
        let x = rms_norm(&x, &self.norm, self.shape.norm_epsilon)?;
        self.output.forward(&x)?.squeeze(0)
    }

    fn attention(
        &self,
        index: usize,
        x: &Tensor,
        mask: &Tensor,
        before: usize,
        cache: &mut Cache,
    ) -> candle_core::Result<Tensor> {
        let (layer, shape) = (&self.layers[index], &self.shape);
        let length = x.dim(1)?;
        let heads = |matrix: &QMatMul, count: usize| {
            let projected = matrix
                .forward(x)?
                .reshape((1, length, count, shape.head_width))?;
            projected.transpose(1, 2)?.contiguous()
        };
        let (cos, sin) = (
            self.cos.narrow(0, before, length)?,
            self.sin.narrow(0, before, length)?,
        );
        let query = rope_i(&heads(&layer.query, shape.heads)?, &cos, &sin)?;
        let mut key = rope_i(&heads(&layer.key, shape.kv_heads)?, &cos, &sin)?;
        let mut value = heads(&layer.value, shape.kv_heads)?;
        if let Some((keys, values)) = cache.0.get(index) {
            key = Tensor::cat(&[keys, &key], 2)?;
            value = Tensor::cat(&[values, &value], 2)?;
            cache.0[index] = (key.clone(), value.clone());
        } else {
            cache.0.push((key.clone(), value.clone()));
        }
        let group = shape.heads / shape.kv_heads;
        let query = query.reshape((1, shape.kv_heads, group * length, shape.head_width))?;
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)?
            * (1.0 / (shape.head_width as f64).sqrt()))?;
        let scores = scores
            .reshape((1, shape.heads, length, ()))?
            .broadcast_add(mask)?;
        let attended = softmax_last_dim(&scores)?
            .reshape((1, shape.kv_heads, group * length, ()))?
            .matmul(&value.contiguous()?)?
            .reshape((1, shape.heads, length, shape.head_width))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((1, length, ()))?;
        layer.output.forward(&attended)
    }
}

/// `[length, before + length]`: 0 where a token may look, minus infinity elsewhere.
fn causal_mask(length: usize, before: usize) -> candle_core::Result<Tensor> {
    let width = before + length;
    let value = |i: usize| {
        if i % width <= before + i / width {
            0.0
        } else {
            f32::NEG_INFINITY
        }
    };
    Tensor::from_vec(
        (0..length * width).map(value).collect::<Vec<f32>>(),
        (length, width),
        &Device::Cpu,
    )
}

fn read_shape(content: &Content) -> Result<Shape, SelftestError> {
    let value = |key: &str| {
        let found = content.metadata.get(key);
        found.ok_or_else(|| SelftestError::Metadata {
            key: key.to_owned(),
        })
    };
    let count = |key: &str| match value(key)? {
        Value::U32(n) => Ok(*n as usize),
        _ => Err(SelftestError::Metadata {
            key: key.to_owned(),
        }),
    };
    let real = |key: &str| match value(key)? {
        Value::F32(x) => Ok(*x),
        _ => Err(SelftestError::Metadata {
            key: key.to_owned(),
        }),
    };
    Ok(Shape {
        vocabulary: count("llama.vocab_size")?,
        width: count("llama.embedding_length")?,
        layers: count("llama.block_count")?,
        heads: count("llama.attention.head_count")?,
        kv_heads: count("llama.attention.head_count_kv")?,
        head_width: count("llama.rope.dimension_count")?,
        feed_forward: count("llama.feed_forward_length")?,
        context: count("llama.context_length")?,
        rope_base: real("llama.rope.freq_base")?,
        norm_epsilon: real("llama.attention.layer_norm_rms_epsilon")?,
    })
}

/// The best token of one row of logits and how far it is above the second best.
///
/// # Errors
/// When the row cannot be read.
pub fn best(logits: &Tensor) -> candle_core::Result<(u32, f32)> {
    let (mut first, mut second, mut token) = (f32::NEG_INFINITY, f32::NEG_INFINITY, 0);
    for (id, logit) in logits.to_vec1::<f32>()?.into_iter().enumerate() {
        if logit > first {
            second = first;
            first = logit;
            token = u32::try_from(id).unwrap_or(u32::MAX);
        } else if logit > second {
            second = logit;
        }
    }
    Ok((token, first - second))
}

/// Nats lost on each of `ids[from..]`, given all before it.
///
/// # Errors
/// When an id is out of range.
pub fn losses(model: &Quantized, ids: &[u32], from: usize) -> candle_core::Result<Vec<f32>> {
    let logits = model.forward(&ids[..ids.len() - 1], &mut Cache::default())?;
    let logs = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
    let targets = Tensor::new(&ids[1..], &Device::Cpu)?.unsqueeze(1)?;
    let right = logs
        .gather(&targets, D::Minus1)?
        .neg()?
        .squeeze(1)?
        .to_vec1::<f32>()?;
    Ok(right[from - 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_token_and_margin() {
        let row = Tensor::new(&[0.5f32, 3.0, -1.0, 2.25], &Device::Cpu).unwrap();
        assert_eq!(best(&row).unwrap(), (1, 0.75));
    }

    #[test]
    fn mask_lets_a_token_see_itself_and_what_was_before() {
        let mask = causal_mask(2, 1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(mask[0], [0.0, 0.0, f32::NEG_INFINITY]);
        assert_eq!(mask[1], [0.0, 0.0, 0.0]);
    }
}
