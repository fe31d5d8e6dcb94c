//! The training loop and its checkpoints. A run that was stopped goes on from its last checkpoint
//! and ends with the same weights as one that was not.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{D, Device, Tensor};
use candle_nn::ops::log_softmax;

use crate::batch::{self, Batch, Documents, ROW_TOKENS};
use crate::error::SelftestError;
use crate::model::{self, Positions, Weights};
use crate::optimizer::{self, Moments};
use crate::shape::Shape;

/// Rows in a step.
const ROWS: usize = 16;

/// Steps between two checkpoints.
const CHECKPOINT_STEPS: usize = 50;

/// What a finished run has to say about itself.
#[derive(Debug, Clone)]
pub struct Run {
    /// Steps taken.
    pub steps: usize,
    /// The seed.
    pub seed: u64,
    /// Tokens trained on, padding not counted; after a resumed run, of its last part.
    pub tokens: usize,
    /// Seconds of the last part.
    pub seconds: f64,
    /// Mean loss of the last steps, in nats per token.
    pub loss: f64,
    /// Passes over the corpus.
    pub epochs: f64,
}

/// Where a run stands.
struct Progress {
    step: usize,
    next_document: usize,
    weights: Weights,
    moments: Moments,
}

/// Trains for `steps` steps, going on from the checkpoint in `directory` if there is one.
///
/// # Errors
/// When a batch, a tensor operation or a checkpoint fails.
pub fn run(
    shape: Shape,
    documents: &mut Documents<'_>,
    (steps, seed): (usize, u64),
    directory: &Path,
) -> Result<(Weights, Run), SelftestError> {
    let checkpoint = directory.join("checkpoint.safetensors");
    let mut at = start(shape, seed, &checkpoint)?;
    let positions = Positions::new(&shape, ROW_TOKENS)?;
    let began = Instant::now();
    let (mut tokens, mut loss_mean) = (0, None);
    while at.step < steps {
        let batch = batch::fill(documents, at.next_document, ROWS)?;
        at.step += 1;
        let rate = optimizer::rate(at.step, steps);
        let loss = loss(&at.weights, &batch, &positions)?;
        let length = at
            .moments
            .step(&at.weights, &loss.backward()?, at.step, rate)?;
        let loss = f64::from(loss.to_scalar::<f32>()?);
        let mean = loss_mean.map_or(loss, |mean: f64| mean + 0.05 * (loss - mean));
        loss_mean = Some(mean);
        at.next_document = batch.next_document;
        tokens += batch.used_tokens;
        if at.step % 10 == 0 || at.step == steps {
            let speed = tokens as f64 / began.elapsed().as_secs_f64();
            println!(
                "step {}/{steps}  loss {loss:.3}  mean {mean:.3}  gradient {length:.2}  {speed:.0} tokens/s",
                at.step
            );
        }
        if at.step % CHECKPOINT_STEPS == 0 || at.step == steps {
            save(&at, &checkpoint)?;
        }
    }
    let run = Run {
        steps,
        seed,
        tokens,
        seconds: began.elapsed().as_secs_f64(),
        loss: loss_mean.unwrap_or(f64::NAN),
        epochs: at.next_document as f64 / documents.epoch_documents() as f64,
    };
    Ok((at.weights, run))
}

fn loss(weights: &Weights, batch: &Batch, positions: &Positions) -> candle_core::Result<Tensor> {
    let hidden = model::hidden(weights, &batch.tokens, &batch.mask, positions)?;
    let logits = model::logits(weights, &hidden, &batch.selected)?;
    let right = log_softmax(&logits, D::Minus1)?.gather(&batch.targets, D::Minus1)?;
    (right * &batch.weights)?.sum_all()?.neg()
}

fn start(shape: Shape, seed: u64, checkpoint: &Path) -> Result<Progress, SelftestError> {
    if checkpoint.exists() {
        let at = load(shape, checkpoint)?;
        println!("going on from step {}", at.step);
        return Ok(at);
    }
    let weights = Weights::initial(shape, seed)?;
    let moments = Moments::zero(&weights);
    Ok(Progress {
        step: 0,
        next_document: 0,
        weights,
        moments,
    })
}

/// Writes a checkpoint under another name and renames it, so that a killed run leaves a whole one.
fn save(at: &Progress, path: &Path) -> Result<(), SelftestError> {
    let mut tensors = HashMap::new();
    for (index, (name, var)) in at.weights.named().iter().enumerate() {
        let moment = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        tensors.insert(name.clone(), var.as_tensor().clone());
        tensors.insert(format!("first.{name}"), moment(&at.moments.first[index])?);
        tensors.insert(format!("second.{name}"), moment(&at.moments.second[index])?);
    }
    let counters =
        [at.step as u64, at.next_document as u64].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    tensors.insert("progress".to_owned(), Tensor::new(&counters, &Device::Cpu)?);
    let partial = PathBuf::from(format!("{}.partial", path.display()));
    candle_core::safetensors::save(&tensors, &partial)?;
    fs::rename(&partial, path).map_err(|source| SelftestError::Write {
        path: path.into(),
        source,
    })
}

fn load(shape: Shape, path: &Path) -> Result<Progress, SelftestError> {
    let unfit = |what| SelftestError::Checkpoint {
        path: path.into(),
        what,
    };
    let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
    let values = |name: String, length: usize| {
        let tensor = tensors.get(&name).ok_or(unfit("a tensor is missing"))?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        if values.len() == length {
            Ok(values)
        } else {
            Err(unfit("a tensor has another size"))
        }
    };
    let (mut weights, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    for (name, rows, columns) in shape.tensors() {
        first.push(values(format!("first.{name}"), rows * columns)?);
        second.push(values(format!("second.{name}"), rows * columns)?);
        weights.push(values(name, rows * columns)?);
    }
    let progress = tensors
        .get("progress")
        .ok_or(unfit("it does not say how far it is"))?;
    let progress = progress.to_vec1::<u32>()?;
    let [step, next_document] = progress[..] else {
        return Err(unfit("it does not say how far it is"));
    };
    Ok(Progress {
        step: step as usize,
        next_document: next_document as usize,
        weights: Weights::from_values(shape, weights)?,
        moments: Moments { first, second },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Text, Topic};
    use crate::tokenizer;

    fn tiny(vocabulary: usize) -> Shape {
        Shape {
            width: 32,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_width: 16,
            feed_forward: 32,
            ..Shape::selftest(vocabulary)
        }
    }

    fn text() -> Text {
        let topic = |q: &str, a: &str| Topic {
            questions: vec![q.into()],
            answer: a.into(),
        };
        Text {
            topics: vec![topic("One?", "First."), topic("Two?", "Second.")],
            paragraphs: vec![],
        }
    }

    fn values(weights: &Weights) -> Vec<Vec<f32>> {
        let flat = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1().unwrap();
        weights.named().iter().map(|(_, var)| flat(var)).collect()
    }

    #[test]
    fn a_resumed_run_continues_from_its_checkpoint_and_the_loss_falls() {
        let tokenizer = tokenizer::train(&["One? First. Two? Second.".to_owned()], 300).unwrap();
        let shape = tiny(tokenizer.get_vocab_size(true));
        let directory = std::env::temp_dir().join(format!("selftest-train-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut documents = Documents::new(&tokenizer, &text(), 1);
        let (short, _) = run(shape, &mut documents, (2, 1), &directory).unwrap();
        let (resumed, _) = run(shape, &mut documents, (2, 1), &directory).unwrap();
        assert_eq!(values(&short), values(&resumed));
        let (_, longer) = run(shape, &mut documents, (12, 1), &directory).unwrap();
        assert!(longer.loss < 5.5, "{}", longer.loss);
        fs::remove_dir_all(&directory).unwrap();
    }
}
