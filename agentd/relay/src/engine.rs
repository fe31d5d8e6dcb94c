//! An engine process, spoken to over its Unix socket: one connection for each request. Dropping an
//! [`Answer`] closes the connection, upon which the engine stops working for it.

use std::io;
use std::path::{Path, PathBuf};

use mnemos_engine_protocol::{Decoder, Event, FrameError, Generate, Info, Request, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Read size; a frame of one token is far smaller.
const READ_BYTES: usize = 16 * 1024;

/// Why an engine gave no event.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody listens on the socket.
    #[error("cannot connect to engine at {}", path.display())]
    Connect {
        /// The engine's socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The engine went away while the request was written.
    #[error("cannot send the request to the engine")]
    Send(#[source] io::Error),
    /// The engine went away before the last frame.
    #[error("engine closed the connection before the answer was complete")]
    Gone,
    /// Bytes that are not this protocol.
    #[error("engine sent an unreadable frame")]
    Frame(#[from] FrameError),
    /// A valid frame that does not answer the request.
    #[error("engine sent {0}, which does not answer the request")]
    Unexpected(&'static str),
}

/// The events of one request.
#[derive(Debug)]
pub struct Answer {
    stream: UnixStream,
    decoder: Decoder,
    buffer: Box<[u8]>,
}

impl Answer {
    async fn open(socket: &Path, request: &Request) -> Result<Answer, EngineError> {
        let frame = encode(request)?;
        let mut stream =
            UnixStream::connect(socket)
                .await
                .map_err(|source| EngineError::Connect {
                    path: socket.to_owned(),
                    source,
                })?;
        stream.write_all(&frame).await.map_err(EngineError::Send)?;
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Answer {
            stream,
            decoder: Decoder::default(),
            buffer,
        })
    }

    /// The next event. Cancel safe: what was read stays in `self`.
    ///
    /// # Errors
    /// [`EngineError::Gone`] when the engine ended; the others when it does not speak the protocol.
    pub async fn next(&mut self) -> Result<Event, EngineError> {
        loop {
            if let Some(event) = self.decoder.next_frame()? {
                return Ok(event);
            }
            match self.stream.read(&mut self.buffer).await {
                // A killed process resets its sockets or closes them; both mean the same.
                Ok(0) | Err(_) => return Err(EngineError::Gone),
                Ok(count) => self
                    .decoder
                    .push(self.buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}

/// Asks the engine at `socket` to generate.
///
/// # Errors
/// [`EngineError`] when the engine does not take the request.
pub async fn generate(socket: &Path, request: Generate) -> Result<Answer, EngineError> {
    Answer::open(socket, &Request::Generate(request)).await
}

/// Asks the engine at `socket` what it serves.
///
/// # Errors
/// [`EngineError`] when it does not answer with that.
pub async fn info(socket: &Path) -> Result<Info, EngineError> {
    match Answer::open(socket, &Request::Info).await?.next().await? {
        Event::Info(info) => Ok(info),
        Event::Started { .. } => Err(EngineError::Unexpected("started")),
        Event::Delta { .. } => Err(EngineError::Unexpected("delta")),
        Event::Done { .. } => Err(EngineError::Unexpected("done")),
        Event::Error { .. } => Err(EngineError::Unexpected("error")),
    }
}
