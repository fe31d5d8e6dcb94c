//! Measures prefill and decode speed of a model.

use serde::Serialize;

use crate::{
    budget::{self, OverContext},
    cli::Bench,
    generation::Output,
    server::{self, GREEDY, Loaded, StartError},
};

/// What `mnemos-neuron bench` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Engine name and version.
    pub engine: &'static str,
    /// Threads for matrix products.
    pub threads: u32,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated; fewer than asked for if the model ended its answer.
    pub decode_tokens: u32,
    /// Prompt length over the time to the first token.
    pub prefill_tokens_per_s: f64,
    /// Tokens after the first over the time since the first.
    pub decode_tokens_per_s: f64,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The model did not load.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Prompt and answer do not fit the model.
    #[error(transparent)]
    OverContext(#[from] OverContext),
    /// The engine gave up.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// Loads the model, reads a prompt of arbitrary tokens and decodes greedily.
///
/// # Errors
/// [`BenchError`].
pub fn run(options: &Bench, threads: u32) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let loaded = server::load(&options.model_dir, &runtime)?;
    let context = loaded.dir.description.context_tokens;
    let prompt = prompt(
        options.prompt_tokens,
        loaded.dir.header.vocabulary,
        loaded.dir.header.eos_token,
    );
    budget::fit(prompt.len(), Some(options.decode_tokens), context)?;
    let report = runtime.block_on(measure(&loaded, prompt, options, threads));
    runtime.shutdown_background();
    report
}

/// Tokens spread over the vocabulary, without the one that ends texts.
fn prompt(length: u32, vocabulary: u32, eos_token: u32) -> Vec<u32> {
    let spread = (0..).map(|index: u32| index.wrapping_mul(7919).wrapping_add(13) % vocabulary);
    spread
        .filter(|token| *token != eos_token || vocabulary == 1)
        .take(length as usize)
        .collect()
}

async fn measure(
    loaded: &Loaded,
    prompt: Vec<u32>,
    options: &Bench,
    threads: u32,
) -> Result<Report, BenchError> {
    let gone = |_| BenchError::Engine("it is gone".to_owned());
    let mut generation = loaded
        .engine
        .generate(prompt, GREEDY, options.decode_tokens)
        .await
        .map_err(gone)?;
    let mut times = Vec::new();
    loop {
        match generation.next().await {
            Some(Output::Token(at)) => times.push(at.as_secs_f64()),
            Some(Output::Text { end: None, .. }) => {}
            Some(Output::Text { end: Some(_), .. }) => break,
            Some(Output::Refused(reason) | Output::Failed(reason)) => {
                return Err(BenchError::Engine(reason));
            }
            None => return Err(BenchError::Engine("it dropped the request".to_owned())),
        }
    }
    let (first, last) = (times.first().copied(), times.last().copied());
    let (first, last) = (first.unwrap_or(f64::NAN), last.unwrap_or(f64::NAN));
    let decode_tokens = u32::try_from(times.len()).unwrap_or(u32::MAX);
    Ok(Report {
        engine: crate::engine::NAME,
        threads,
        prompt_tokens: options.prompt_tokens,
        decode_tokens,
        prefill_tokens_per_s: f64::from(options.prompt_tokens) / first,
        decode_tokens_per_s: f64::from(decode_tokens.saturating_sub(1)) / (last - first),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_has_the_length_and_no_end() {
        let tokens = prompt(1000, 300, 13);
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| *token < 300 && *token != 13));
    }
}
