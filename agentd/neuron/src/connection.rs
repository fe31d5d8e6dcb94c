//! One client connection: read one request, answer it, notice when the client is gone.

use std::{io, sync::Arc, time::Duration};

use mnemos_engine_protocol::{Decoder, ErrorCode, Event, Generate, Info, Request, encode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use crate::{
    answer::Answer,
    budget::{self, Deadlines},
    engine::{Engine, TokenizeError},
    fault::{Fault, Faults},
    log, request,
    slots::Slots,
    stop::StopFilter,
};

/// A client on the same machine sends its request at once.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// A client that reads nothing for this long is given up; until then it only costs memory.
const WRITE_DEADLINE: Duration = Duration::from_secs(600);

/// What all connections share.
pub struct Shared {
    /// The model.
    pub engine: Engine,
    /// Who may use it.
    pub slots: Slots,
    /// Reasons to end the process.
    pub faults: Faults,
    /// When the engine counts as hung.
    pub deadlines: Deadlines,
    /// Answer to `Request::Info`, but for what changes.
    pub info: Info,
}

/// The client closed the connection, or it broke.
struct ClientGone;

/// Answers the one request of a connection.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S, shared: Arc<Shared>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let request = match timeout(REQUEST_DEADLINE, read_request(&mut reader)).await {
        Ok(Ok(request)) => request,
        Ok(Err(Some(refusal))) => {
            let _ = write(&mut writer, &refusal).await; // It cannot be told more.
            return;
        }
        Ok(Err(None)) | Err(_) => return,
    };
    match request {
        Request::Info => {
            let info = Event::Info(info(&shared));
            let _ = write(&mut writer, &info).await; // Gone before the answer: nothing to do.
        }
        Request::Generate(generate) => {
            let answer = generate_events(generate, &shared, &mut writer);
            tokio::select! {
                () = gone(&mut reader) => {}
                _ = answer => {}
            }
        }
    }
}

fn info(shared: &Shared) -> Info {
    let (running, waiting) = (shared.slots.running(), shared.slots.waiting());
    Info {
        running,
        waiting,
        ..shared.info.clone()
    }
}

/// Everything a `Generate` is answered with. Dropping the future cancels the request, wherever it is.
async fn generate_events<W: AsyncWrite + Unpin>(
    generate: Generate,
    shared: &Shared,
    writer: &mut W,
) -> Result<(), ClientGone> {
    let prepared = tokio::select! {
        biased;
        fault = shared.faults.wait() => Err(fault_event(&fault)),
        prepared = prepare(generate, shared) => prepared,
    };
    let answer = match prepared {
        Ok(answer) => answer,
        Err(refusal) => return write(writer, &refusal).await,
    };
    let prompt_tokens = answer.budget.prompt;
    let (sender, mut events) = mpsc::channel(answer.budget.answer as usize + 2);
    tokio::spawn(answer.run(sender));
    write(writer, &Event::Started { prompt_tokens }).await?;
    while let Some(event) = events.recv().await {
        write(writer, &event).await?;
    }
    Ok(())
}

/// Checks, waits for a turn, counts tokens, starts the engine.
async fn prepare(generate: Generate, shared: &Shared) -> Result<Answer, Event> {
    let invalid = |message: String| error(ErrorCode::InvalidRequest, message);
    request::check(&generate).map_err(|bad| invalid(bad.to_string()))?;
    let slot = shared
        .slots
        .acquire()
        .await
        .map_err(|full| error(ErrorCode::Busy, full.to_string()))?;
    let Generate {
        id,
        prompt,
        sampling,
        stop,
        max_tokens,
    } = generate;
    // The engine is idle: its tokenizer answers at once, or not at all.
    let deadline = shared.deadlines.next_token;
    let tokens = match timeout(deadline, shared.engine.tokenize(&prompt)).await {
        Ok(Ok(tokens)) => tokens,
        Ok(Err(TokenizeError::Gone)) => return Err(raise(shared, Fault::Gone)),
        Ok(Err(refused)) => return Err(invalid(refused.to_string())),
        Err(_) => return Err(raise(shared, Fault::Hung(deadline.as_secs()))),
    };
    let context = shared.info.context_tokens;
    let budget = budget::fit(tokens.len(), max_tokens, context)
        .map_err(|over| error(ErrorCode::ContextLengthExceeded, over.to_string()))?;
    let generation = shared
        .engine
        .generate(tokens, sampling, budget.answer)
        .await
        .map_err(|_| raise(shared, Fault::Gone))?;
    let (deadlines, faults) = (shared.deadlines, shared.faults.clone());
    Ok(Answer {
        id,
        generation,
        slot,
        stop: StopFilter::new(stop),
        budget,
        deadlines,
        faults,
    })
}

fn raise(shared: &Shared, fault: Fault) -> Event {
    let event = fault_event(&fault);
    shared.faults.raise(fault);
    event
}

fn fault_event(fault: &Fault) -> Event {
    error(fault.error_code(), fault.to_string())
}

fn error(code: ErrorCode, message: String) -> Event {
    Event::Error { code, message }
}

/// The request, or what to answer in its place; nothing if the client left.
async fn read_request(reader: &mut (impl AsyncRead + Unpin)) -> Result<Request, Option<Event>> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(count) => decoder.push(&buffer[..count]),
        }
        match decoder.next_frame() {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => {}
            Err(bad) => {
                let message = log::chain(&bad);
                return Err(Some(error(ErrorCode::InvalidRequest, message)));
            }
        }
    }
}

/// Returns when the client closes or the connection breaks. Anything it still sends is dropped.
async fn gone(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 256];
    while let Ok(count) = reader.read(&mut buffer).await {
        if count == 0 {
            return;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, event: &Event) -> Result<(), ClientGone> {
    let frame = encode(event).map_err(|_| ClientGone)?; // A delta is never near the limit.
    let written = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    let written: Result<io::Result<()>, _> = timeout(WRITE_DEADLINE, written).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(ClientGone),
    }
}
