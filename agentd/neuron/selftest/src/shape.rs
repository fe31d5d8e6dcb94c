//! The model's dimensions and the names of its tensors, as GGUF's `llama` architecture has them.

/// Dimensions of a Llama-architecture model with tied embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream; a multiple of 32, the block length of Q8_0.
    pub width: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads (grouped-query attention); divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width of the feed-forward part; a multiple of 32.
    pub feed_forward: usize,
    /// Longest sequence in tokens.
    pub context: usize,
    /// Base of the rotary embedding's frequencies.
    pub rope_base: f32,
    /// Added to the mean square in RMSNorm.
    pub norm_epsilon: f32,
}

impl Shape {
    /// The self-test model for a vocabulary of `vocabulary` tokens.
    pub fn selftest(vocabulary: usize) -> Self {
        Self {
            vocabulary,
            width: 256,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            head_width: 64,
            feed_forward: 704,
            context: 512,
            rope_base: 10_000.0,
            norm_epsilon: 1e-5,
        }
    }

    /// Every tensor with its rows and columns (norms: rows 1), in file order.
    pub fn tensors(&self) -> Vec<(String, usize, usize)> {
        let kv_width = self.kv_heads * self.head_width;
        let query_width = self.heads * self.head_width;
        let mut tensors = vec![("token_embd.weight".to_owned(), self.vocabulary, self.width)];
        for layer in 0..self.layers {
            let parts = [
                ("attn_norm", 1, self.width),
                ("attn_q", query_width, self.width),
                ("attn_k", kv_width, self.width),
                ("attn_v", kv_width, self.width),
                ("attn_output", self.width, query_width),
                ("ffn_norm", 1, self.width),
                ("ffn_gate", self.feed_forward, self.width),
                ("ffn_up", self.feed_forward, self.width),
                ("ffn_down", self.width, self.feed_forward),
            ];
            tensors.extend(
                parts.map(|(part, rows, columns)| (tensor_name(layer, part), rows, columns)),
            );
        }
        tensors.push(("output_norm.weight".to_owned(), 1, self.width));
        tensors
    }

    /// How many numbers the model has.
    pub fn parameters(&self) -> usize {
        self.tensors()
            .iter()
            .map(|(_, rows, columns)| rows * columns)
            .sum()
    }

    /// The angle of each position and pair of a head: `[positions][head_width / 2]`, flat.
    pub fn rope_angles(&self, positions: usize) -> Vec<f32> {
        let pairs = self.head_width / 2;
        let angle = |i: usize| {
            let exponent = 2.0 * (i % pairs) as f32 / self.head_width as f32;
            (i / pairs) as f32 / self.rope_base.powf(exponent)
        };
        (0..positions * pairs).map(angle).collect()
    }
}

/// The name of one layer's tensor.
pub fn tensor_name(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selftest_model_fits_its_limits() {
        let shape = Shape::selftest(2048);
        assert!(shape.parameters() * 34 / 32 < 8 << 20);
        for (name, rows, columns) in shape.tensors() {
            assert!(rows == 1 || columns % 32 == 0, "{name}");
        }
        assert_eq!(shape.heads % shape.kv_heads, 0);
    }

    #[test]
    fn rope_angles_follow_the_definition() {
        let angles = Shape::selftest(8).rope_angles(3);
        assert_eq!(angles[0], 0.0);
        assert_eq!(angles[32], 1.0);
        assert_eq!(angles[64], 2.0);
        assert!((angles[33] - 10_000f32.powf(-2.0 / 64.0)).abs() < 1e-6);
    }
}
