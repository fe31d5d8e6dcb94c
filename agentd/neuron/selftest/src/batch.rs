//! Turns the corpus into training batches: documents in a random order that depends on the seed
//! alone, several to a row, each row with a mask that keeps its documents apart.

use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::chat::{self, Turn};
use crate::corpus::Text;
use crate::error::SelftestError;
use crate::rng::SplitMix64;
use crate::tokenizer;

/// Tokens in a row.
pub const ROW_TOKENS: usize = 128;

/// How much a question's own tokens count in the loss; answers and paragraphs count 1.
const QUESTION_WEIGHT: f32 = 0.1;

/// Chance that a document continues with another turn.
const NEXT_TURN: f64 = 0.2;

/// Polite or casual openings that change nothing about a question.
const OPENINGS: [&str; 8] = [
    "Hi! ",
    "Hello, ",
    "Hello. ",
    "Please tell me: ",
    "Quick question: ",
    "Hey, ",
    "I have a question. ",
    "One more thing: ",
];

/// A tokenised document with the weight of each token as a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Token ids.
    pub ids: Vec<u32>,
    /// How much predicting each token counts.
    pub weights: Vec<f32>,
}

impl Document {
    fn push(&mut self, ids: &[u32], weight: f32) {
        self.ids.extend_from_slice(ids);
        self.weights.extend(std::iter::repeat_n(weight, ids.len()));
    }
}

/// What one document starts from.
enum Seed {
    Turn(Turn),
    Paragraph(String),
}

/// An endless, repeatable stream of documents.
pub struct Documents<'a> {
    tokenizer: &'a Tokenizer,
    seeds: Vec<Seed>,
    seed: u64,
    order: Vec<usize>,
    epoch: Option<usize>,
}

impl<'a> Documents<'a> {
    /// The stream of `text` for `seed`.
    pub fn new(tokenizer: &'a Tokenizer, text: &Text, seed: u64) -> Self {
        let turns = text.turns().into_iter().map(Seed::Turn);
        let paragraphs = text.paragraphs.iter().cloned().map(Seed::Paragraph);
        let seeds: Vec<Seed> = turns.chain(paragraphs).collect();
        let order = (0..seeds.len()).collect();
        Self {
            tokenizer,
            seeds,
            seed,
            order,
            epoch: None,
        }
    }

    /// How many documents make one pass over the text.
    pub fn epoch_documents(&self) -> usize {
        self.seeds.len()
    }

    /// Document number `index` of the stream.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn get(&mut self, index: usize) -> Result<Document, SelftestError> {
        let epoch = index / self.seeds.len();
        if self.epoch != Some(epoch) {
            self.order = (0..self.seeds.len()).collect();
            SplitMix64::new(self.seed, 2 + 2 * epoch as u64).shuffle(&mut self.order);
            self.epoch = Some(epoch);
        }
        let mut rng = SplitMix64::new(self.seed ^ 0x5EED, 3 + 2 * index as u64);
        let mut document = Document {
            ids: Vec::new(),
            weights: Vec::new(),
        };
        match &self.seeds[self.order[index % self.seeds.len()]] {
            Seed::Paragraph(text) => {
                document.push(
                    &tokenizer::encode(self.tokenizer, &format!("{text}{}", chat::END))?,
                    1.0,
                );
            }
            Seed::Turn(turn) => {
                self.push_turn(&mut document, turn, &mut rng)?;
                while rng.chance(NEXT_TURN) {
                    let other = &self.seeds[rng.below(self.seeds.len())];
                    if let Seed::Turn(turn) = other {
                        self.push_turn(&mut document, turn, &mut rng)?;
                    }
                }
            }
        }
        document.ids.truncate(ROW_TOKENS);
        document.weights.truncate(ROW_TOKENS);
        Ok(document)
    }

    fn push_turn(
        &self,
        document: &mut Document,
        turn: &Turn,
        rng: &mut SplitMix64,
    ) -> Result<(), SelftestError> {
        let question = vary(&turn.question, rng);
        let asked = tokenizer::encode(self.tokenizer, &chat::prompt(&question))?;
        let answer = format!("{}{}", turn.answer, chat::END);
        document.push(&asked, QUESTION_WEIGHT);
        document.push(&tokenizer::encode(self.tokenizer, &answer)?, 1.0);
        Ok(())
    }
}

/// The question as another person might type it.
fn vary(question: &str, rng: &mut SplitMix64) -> String {
    let mut varied = question.to_owned();
    if rng.chance(0.15) {
        varied = varied.to_lowercase();
    }
    if rng.chance(0.15) {
        varied = varied.trim_end_matches(['?', '.']).to_owned();
    }
    if rng.chance(0.12) {
        let words: Vec<&str> = varied.split(' ').collect();
        if words.len() > 4 {
            let dropped = rng.below(words.len());
            let kept = words
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != dropped)
                .map(|(_, word)| *word);
            varied = kept.collect::<Vec<_>>().join(" ");
        }
    }
    if rng.chance(0.08) {
        varied = format!("{}{varied}", OPENINGS[rng.below(OPENINGS.len())]);
    }
    varied
}

/// One training step's input.
pub struct Batch {
    /// Token ids, `[rows, ROW_TOKENS]`.
    pub tokens: Tensor,
    /// Additive mask, `[rows, 1, ROW_TOKENS, ROW_TOKENS]`.
    pub mask: Tensor,
    /// Positions (over all rows) whose next token counts.
    pub selected: Tensor,
    /// That next token, `[selected, 1]`.
    pub targets: Tensor,
    /// How much it counts, summing to 1.
    pub weights: Tensor,
    /// Tokens that are not padding.
    pub used_tokens: usize,
    /// Number of the first document not used yet.
    pub next_document: usize,
}

/// Fills `rows` rows with documents from number `first` on.
///
/// # Errors
/// When the tokenizer refuses a text or a tensor cannot be made.
pub fn fill(
    documents: &mut Documents<'_>,
    first: usize,
    rows: usize,
) -> Result<Batch, SelftestError> {
    let mut next_document = first;
    let mut packed: Vec<Vec<Document>> = Vec::with_capacity(rows);
    while packed.len() < rows {
        let mut row = Vec::new();
        let mut free = ROW_TOKENS;
        loop {
            let document = documents.get(next_document)?;
            if document.ids.len() > free {
                break;
            }
            free -= document.ids.len();
            row.push(document);
            next_document += 1;
        }
        packed.push(row);
    }
    Ok(tensors(&packed, next_document)?)
}

fn tensors(packed: &[Vec<Document>], next_document: usize) -> candle_core::Result<Batch> {
    let rows = packed.len();
    let mut tokens = vec![0u32; rows * ROW_TOKENS];
    let mut mask = vec![f32::NEG_INFINITY; rows * ROW_TOKENS * ROW_TOKENS];
    let (mut selected, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut used_tokens = 0;
    for (row, documents) in packed.iter().enumerate() {
        let mut start = 0;
        for document in documents {
            let end = start + document.ids.len();
            tokens[row * ROW_TOKENS + start..row * ROW_TOKENS + end].copy_from_slice(&document.ids);
            for position in start..end {
                let line = (row * ROW_TOKENS + position) * ROW_TOKENS;
                mask[line + start..=line + position].fill(0.0);
            }
            for (offset, pair) in document.ids.windows(2).enumerate() {
                selected.push(u32::try_from(row * ROW_TOKENS + start + offset).unwrap_or(u32::MAX));
                targets.push(pair[1]);
                weights.push(document.weights[offset + 1]);
            }
            used_tokens += document.ids.len();
            start = end;
        }
        // Padding sees itself only, so that its softmax stays finite.
        for position in start..ROW_TOKENS {
            mask[(row * ROW_TOKENS + position) * ROW_TOKENS + position] = 0.0;
        }
    }
    let total: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    let count = targets.len();
    let device = &Device::Cpu;
    Ok(Batch {
        tokens: Tensor::from_vec(tokens, (rows, ROW_TOKENS), device)?,
        mask: Tensor::from_vec(mask, (rows, 1, ROW_TOKENS, ROW_TOKENS), device)?,
        selected: Tensor::from_vec(selected, count, device)?,
        targets: Tensor::from_vec(targets, (count, 1), device)?,
        weights: Tensor::from_vec(weights, (count, 1), device)?,
        used_tokens,
        next_document,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(ids: &[u32]) -> Document {
        Document {
            ids: ids.to_vec(),
            weights: vec![1.0; ids.len()],
        }
    }

    #[test]
    fn rows_keep_documents_apart_and_predict_the_next_token() {
        let batch = tensors(&[vec![document(&[5, 6]), document(&[7, 8, 9])]], 2).unwrap();
        assert_eq!(batch.used_tokens, 5);
        assert_eq!(batch.selected.to_vec1::<u32>().unwrap(), [0, 2, 3]);
        assert_eq!(
            batch
                .targets
                .flatten_all()
                .unwrap()
                .to_vec1::<u32>()
                .unwrap(),
            [6, 8, 9]
        );
        let mask = batch.mask.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let seen = |from: usize, to: usize| mask[from * ROW_TOKENS + to] == 0.0;
        assert!(seen(1, 0) && seen(3, 2) && seen(4, 2) && seen(9, 9));
        assert!(!seen(2, 1) && !seen(2, 3) && !seen(0, 1) && !seen(9, 4));
    }

    #[test]
    fn variation_is_repeatable_and_keeps_words() {
        let ask = |seed| vary("How do I start the node?", &mut SplitMix64::new(seed, 0));
        assert_eq!(ask(3), ask(3));
        assert!(
            (0..200).all(|seed| ask(seed).to_lowercase().contains("start the")
                || ask(seed).split(' ').count() < 7)
        );
    }
}
