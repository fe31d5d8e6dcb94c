//! The model in f32 with gradients, for training. Rotary embedding turns neighbouring pairs
//! `(0,1), (2,3) ...`, which is what the GGUF `llama` architecture means by its Q and K weights, so
//! the weights are exported as they are: no permutation.

use candle_core::{D, Device, Tensor, Var};
use candle_nn::ops::silu;

use crate::rng::SplitMix64;
use crate::shape::{Shape, tensor_name};

/// Standard deviation of the first weights; projections into the residual stream get less.
const INITIAL_DEVIATION: f64 = 0.03;

/// All weights by name, in file order.
pub struct Weights {
    shape: Shape,
    named: Vec<(String, Var)>,
}

impl Weights {
    /// First weights drawn from `seed`.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn initial(shape: Shape, seed: u64) -> candle_core::Result<Self> {
        let mut rng = SplitMix64::new(seed, 1);
        let residual = INITIAL_DEVIATION / (2.0 * shape.layers as f64).sqrt();
        let mut values = Vec::new();
        for (name, rows, columns) in shape.tensors() {
            let into_residual = name.contains("attn_output") || name.contains("ffn_down");
            let deviation = if into_residual {
                residual
            } else {
                INITIAL_DEVIATION
            };
            let draw = |_| {
                if rows == 1 {
                    1.0
                } else {
                    single(rng.normal() * deviation)
                }
            };
            values.push((0..rows * columns).map(draw).collect());
        }
        Self::from_values(shape, values)
    }

    /// Weights from plain numbers in file order.
    ///
    /// # Errors
    /// When a tensor's length does not fit its shape.
    pub fn from_values(shape: Shape, values: Vec<Vec<f32>>) -> candle_core::Result<Self> {
        let mut named = Vec::new();
        for ((name, rows, columns), values) in shape.tensors().into_iter().zip(values) {
            let tensor = if rows == 1 {
                Tensor::from_vec(values, columns, &Device::Cpu)?
            } else {
                Tensor::from_vec(values, (rows, columns), &Device::Cpu)?
            };
            named.push((name, Var::from_tensor(&tensor)?));
        }
        Ok(Self { shape, named })
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Names and tensors in file order.
    pub fn named(&self) -> &[(String, Var)] {
        &self.named
    }

    fn get(&self, name: &str) -> candle_core::Result<&Tensor> {
        let found = self.named.iter().find(|(n, _)| n == name);
        found
            .map(|(_, var)| var.as_tensor())
            .ok_or_else(|| candle_core::Error::Msg(format!("no tensor {name}")))
    }

    fn layer(&self, layer: usize, part: &str) -> candle_core::Result<&Tensor> {
        self.get(&tensor_name(layer, part))
    }
}

/// An `f64` as the nearest `f32`.
pub fn single(value: f64) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding to single precision is meant"
    )]
    let value = value as f32;
    value
}

/// What attention needs beside the weights, made once for a sequence length.
pub struct Positions {
    cos: Tensor,
    sin: Tensor,
    /// Multiplying a head by this swaps each pair and negates its first half.
    turn: Tensor,
}

impl Positions {
    /// Tables for sequences of `length` tokens.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn new(shape: &Shape, length: usize) -> candle_core::Result<Self> {
        let width = shape.head_width;
        let twice = |f: fn(f32) -> f32| {
            let angles = shape.rope_angles(length);
            angles
                .into_iter()
                .flat_map(move |a| [f(a), f(a)])
                .collect::<Vec<f32>>()
        };
        let table = |values| Tensor::from_vec(values, (1, 1, length, width), &Device::Cpu);
        let mut turn = vec![0f32; width * width];
        for pair in (0..width).step_by(2) {
            turn[(pair + 1) * width + pair] = -1.0;
            turn[pair * width + pair + 1] = 1.0;
        }
        Ok(Self {
            cos: table(twice(f32::cos))?,
            sin: table(twice(f32::sin))?,
            turn: Tensor::from_vec(turn, (width, width), &Device::Cpu)?,
        })
    }

    /// Rotary embedding of `[batch, heads, length, head_width]`.
    fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let dims = x.dims4()?;
        let turned = x.reshape(((), dims.3))?.matmul(&self.turn)?.reshape(dims)?;
        x.broadcast_mul(&self.cos)? + turned.broadcast_mul(&self.sin)?
    }
}

fn norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> candle_core::Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = (mean_square + f64::from(epsilon))?.sqrt()?.recip()?;
    x.broadcast_mul(&scale)?.broadcast_mul(weight)
}

/// Softmax over the last dimension; the maximum is a constant to the gradient.
fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = x
        .broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?
        .exp()?;
    shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)
}

/// Hidden states after the last norm, `[batch * length, width]`, for `tokens` `[batch, length]` and
/// an additive attention mask `[batch, 1, length, length]`.
///
/// # Errors
/// When shapes do not fit.
pub fn hidden(
    weights: &Weights,
    tokens: &Tensor,
    mask: &Tensor,
    positions: &Positions,
) -> candle_core::Result<Tensor> {
    let shape = weights.shape();
    let (batch, length) = tokens.dims2()?;
    let embedding = weights.get("token_embd.weight")?;
    let mut x = embedding.index_select(&tokens.flatten_all()?, 0)?;
    for layer in 0..shape.layers {
        let normed = norm(&x, weights.layer(layer, "attn_norm")?, shape.norm_epsilon)?;
        let attended = attention(weights, layer, &normed, mask, positions, (batch, length))?;
        x = (x + attended)?;
        let normed = norm(&x, weights.layer(layer, "ffn_norm")?, shape.norm_epsilon)?;
        let gate = silu(&normed.matmul(&weights.layer(layer, "ffn_gate")?.t()?)?)?;
        let up = normed.matmul(&weights.layer(layer, "ffn_up")?.t()?)?;
        x = (x + (gate * up)?.matmul(&weights.layer(layer, "ffn_down")?.t()?)?)?;
    }
    norm(&x, weights.get("output_norm.weight")?, shape.norm_epsilon)
}

fn attention(
    weights: &Weights,
    layer: usize,
    x: &Tensor,
    mask: &Tensor,
    positions: &Positions,
    (batch, length): (usize, usize),
) -> candle_core::Result<Tensor> {
    let shape = weights.shape();
    let heads = |part: &str, count: usize| {
        x.matmul(&weights.layer(layer, part)?.t()?)?
            .reshape((batch, length, count, shape.head_width))?
            .transpose(1, 2)?
            .contiguous()
    };
    let scale = 1.0 / (shape.head_width as f64).sqrt();
    let query = (positions.rotate(&heads("attn_q", shape.heads)?)? * scale)?;
    let key = positions.rotate(&heads("attn_k", shape.kv_heads)?)?;
    let value = heads("attn_v", shape.kv_heads)?;
    // Query heads of one group lie behind each other, so they act as one longer sequence.
    let group = shape.heads / shape.kv_heads;
    let query = query.reshape((batch, shape.kv_heads, group * length, shape.head_width))?;
    let scores = query
        .matmul(&key.transpose(2, 3)?.contiguous()?)?
        .reshape((batch, shape.heads, length, length))?
        .broadcast_add(mask)?;
    let attended = softmax(&scores)?
        .reshape((batch, shape.kv_heads, group * length, length))?
        .matmul(&value)?
        .reshape((batch, shape.heads, length, shape.head_width))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch * length, ()))?;
    attended.matmul(&weights.layer(layer, "attn_output")?.t()?)
}

/// Logits of the rows `selected` of `hidden`, through the tied embedding.
///
/// # Errors
/// When shapes do not fit.
pub fn logits(
    weights: &Weights,
    hidden: &Tensor,
    selected: &Tensor,
) -> candle_core::Result<Tensor> {
    let rows = hidden.index_select(selected, 0)?;
    rows.matmul(&weights.get("token_embd.weight")?.t()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_turns_neighbouring_pairs() {
        let shape = Shape::selftest(8);
        let positions = Positions::new(&shape, 3).unwrap();
        let x = Tensor::arange(0f32, 192.0, &Device::Cpu)
            .unwrap()
            .reshape((1, 1, 3, 64))
            .unwrap();
        let half = |f: fn(f32) -> f32| {
            let values: Vec<f32> = shape.rope_angles(3).into_iter().map(f).collect();
            Tensor::from_vec(values, (3, 32), &Device::Cpu).unwrap()
        };
        let expected = candle_nn::rotary_emb::rope_i(&x, &half(f32::cos), &half(f32::sin)).unwrap();
        let difference = (positions.rotate(&x).unwrap() - expected).unwrap();
        let worst = difference
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(worst < 1e-3, "{worst}");
    }
}
