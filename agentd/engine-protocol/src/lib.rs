//! Frames between the agent and an engine process, over a Unix stream socket.
//!
//! One connection carries one request. The client writes one [`Request`] frame, the engine answers
//! with [`Event`] frames and closes. A client that closes early cancels: the engine stops working for
//! it. A frame is a big-endian `u32` byte count followed by that many bytes of JSON.
//!
//! ```text
//! client                                engine
//!   Request::Info          ->
//!                          <-  Event::Info
//!
//!   Request::Generate      ->
//!                          <-  Event::Started { prompt_tokens }
//!                          <-  Event::Delta { text }          (any number)
//!                          <-  Event::Done { .. } | Event::Error { .. }
//! ```
//! No I/O and no clock here: [`encode`] and [`Decoder`] work on bytes, both sides bring their own socket.

mod frame;
mod message;

pub use frame::{Decoder, FrameError, MAX_FRAME_BYTES, encode};
pub use message::{
    ErrorCode, Event, FinishReason, Generate, Info, Message, Prompt, Request, Role, Sampling, Usage,
};
