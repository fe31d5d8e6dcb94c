//! The only module that talks to mistral.rs: loads a model, counts tokens, generates.
//!
//! Requests go to the engine's own queue, never through the SDK's calls, because those use channels of
//! one entry, on which the engine waits inside its step loop. See README.md for every guard.

use std::{sync::Arc, thread, time::Instant};

use either::Either;
use mistralrs::{
    Constraint, DeviceMapSetting, GgufModelBuilder, MessageContent, Model, NormalRequest, Request,
    RequestMessage, Response, SamplingParams, Tensor, TokenSource, core::TokenizationRequest,
};
use mnemos_engine_protocol::{Message, Prompt, Role, Sampling};
use tokio::sync::{mpsc, oneshot};

use crate::{
    generation::Generation,
    model_dir::{ModelDir, WEIGHTS},
};

/// What `Info` calls this engine.
pub const NAME: &str = "mistral.rs 0.8.1 (cpu, x86-64-v3)";

/// Why a model is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A path that mistral.rs, which wants strings, cannot be given.
    #[error("the path {0} is not UTF-8")]
    Path(String),
    /// The operating system gave no thread or runtime to load in.
    #[error("cannot start the loading thread")]
    Thread(#[source] std::io::Error),
    /// mistral.rs refused the model.
    #[error("the engine cannot load the model: {0}")]
    Engine(String),
    /// mistral.rs panicked; the panic hook has logged where.
    #[error("the engine panicked while it loaded the model")]
    Panic,
}

/// Why a prompt has no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// The chat template or the tokenizer refused it.
    #[error("the prompt cannot be tokenized: {0}")]
    Refused(String),
    /// Nothing in it.
    #[error("the prompt is empty")]
    Empty,
    /// The engine does not answer.
    #[error("the engine does not answer")]
    Gone,
}

/// The engine's queue is closed: its thread is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A loaded model and the thread that computes with it.
pub struct Engine {
    requests: mpsc::Sender<Request>,
    /// Dropping it ends the engine's thread.
    _model: Model,
}

impl Engine {
    /// Loads a checked model directory. Blocks for as long as reading the weights takes.
    ///
    /// # Errors
    /// [`LoadError`]; the process should end, for what was allocated may stay so.
    pub fn load(dir: &ModelDir) -> Result<Self, LoadError> {
        let builder = builder(dir)?;
        // mistral.rs loads inside an `async fn` without ever yielding: a thread of its own. In a
        // single-threaded runtime it also skips its unbounded wait for a first request of its own.
        let load = move || -> Result<Model, LoadError> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let loaded = runtime
                .map_err(LoadError::Thread)?
                .block_on(builder.build());
            loaded.map_err(|error| LoadError::Engine(format!("{error:#}")))
        };
        let thread = thread::Builder::new().name("load".into()).spawn(load);
        let model = thread
            .map_err(LoadError::Thread)?
            .join()
            .map_err(|_| LoadError::Panic)??;
        // Taken once: asking again would silently start a second engine in place of a dead one.
        let requests = model.inner().get_sender(None);
        let requests = requests.map_err(|error| LoadError::Engine(error.to_string()))?;
        Ok(Self {
            requests,
            _model: model,
        })
    }

    /// The tokens of a prompt, after the chat template. Waits for the engine's current step.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub async fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizeError> {
        let (response, mut answer) = mpsc::channel(1);
        let text = match prompt {
            Prompt::Chat(messages) if messages.is_empty() => return Err(TokenizeError::Empty),
            Prompt::Chat(messages) => Either::Left(messages.iter().map(chat_message).collect()),
            Prompt::Text(text) => Either::Right(text.clone()),
        };
        let request = Request::Tokenize(TokenizationRequest {
            text,
            tools: None,
            add_generation_prompt: true,
            add_special_tokens: true,
            enable_thinking: None,
            reasoning_effort: None,
            response,
        });
        self.requests
            .send(request)
            .await
            .map_err(|_| TokenizeError::Gone)?;
        match answer.recv().await {
            Some(Ok(tokens)) if tokens.is_empty() => Err(TokenizeError::Empty),
            Some(Ok(tokens)) => Ok(tokens),
            Some(Err(error)) => Err(TokenizeError::Refused(format!("{error:#}"))),
            None => Err(TokenizeError::Gone),
        }
    }

    /// Starts to continue `tokens` by at most `max_tokens`.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn generate(
        &self,
        tokens: Vec<u32>,
        sampling: Sampling,
        max_tokens: u32,
    ) -> Result<Generation, Gone> {
        // A mark and a chunk for each token, so that the engine never waits for us.
        let (response, responses) = mpsc::channel(2 * max_tokens as usize + 16);
        let (let_go, released) = oneshot::channel();
        let start = Instant::now();
        let marks = response.clone();
        let mark = move |logits: &Tensor, _: &[u32]| {
            let _held_until_the_engine_drops_the_sequence = &let_go;
            // Full or closed means that nobody counts any more.
            let _ = marks.try_send(Generation::mark(start.elapsed()));
            Ok(logits.clone())
        };
        let mut request = NormalRequest::new_simple(
            RequestMessage::CompletionTokens(tokens),
            parameters(sampling, max_tokens),
            response,
            0,
            None,
            None,
        );
        request.is_streaming = true;
        request.return_logprobs = true; // For the bytes of the first token; costs nothing with top_n 0.
        request.constraint = Constraint::None;
        request.logits_processors = Some(vec![Arc::new(mark)]);
        self.requests
            .send(Request::Normal(Box::new(request)))
            .await
            .map_err(|_| Gone)?;
        Ok(Generation::new(responses, released, max_tokens))
    }
}

/// Lets mistral.rs log to stdout what `RUST_LOG` allows, which [`crate::environment`] sets to warnings.
pub fn log_warnings() {
    mistralrs::initialize_logging();
}

fn builder(dir: &ModelDir) -> Result<GgufModelBuilder, LoadError> {
    let utf8 = |path: &std::path::Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| LoadError::Path(path.display().to_string()))
    };
    let builder = GgufModelBuilder::new(utf8(&dir.path)?, vec![WEIGHTS])
        .with_token_source(TokenSource::None)
        .with_force_cpu()
        .with_device_mapping(DeviceMapSetting::dummy())
        .with_max_num_seqs(1)
        .with_prefix_cache_n(None);
    Ok(match &dir.chat_template {
        Some(path) => builder.with_chat_template(utf8(path)?),
        None => builder,
    })
}

fn chat_message<M>(message: &Message) -> M
where
    M: FromIterator<(String, MessageContent)>,
{
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let entries = [("role", role), ("content", message.content.as_str())];
    entries
        .map(|(key, value)| (key.to_owned(), MessageContent::Left(value.to_owned())))
        .into_iter()
        .collect()
}

/// Every field on purpose: the SDK's ready-made sets leave the length open, and stop strings are ours
/// (`StopFilter`).
fn parameters(sampling: Sampling, max_tokens: u32) -> SamplingParams {
    let penalty = |value: f32| (value != 0.0).then_some(value);
    SamplingParams {
        // `None` would be 1; below 1e-7 the engine takes the most probable token.
        temperature: Some(sampling.temperature),
        top_k: None,
        top_p: Some(sampling.top_p),
        min_p: None,
        top_n_logprobs: 0,
        frequency_penalty: penalty(sampling.frequency_penalty),
        presence_penalty: penalty(sampling.presence_penalty),
        repetition_penalty: None,
        stop_toks: None,
        max_len: Some(max_tokens as usize),
        logits_bias: None,
        n_choices: 1,
        dry_params: None,
    }
}

/// Kept here so that no other module needs mistral.rs's names.
pub(crate) type EngineResponse = Response;
