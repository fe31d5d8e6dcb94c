//! Test models and a worker process.
//!
//! A chain model needs no training: its attention and feed-forward weights are zero, every token has a
//! random direction, and the output row of a token is the direction of the token in front of it. So it
//! greedily continues any prompt by the successors of its last token, exactly and for ever.

#![allow(dead_code, reason = "each test program uses another part of it")]
#![expect(clippy::unwrap_used, reason = "test code: a panic names the line")]

pub(crate) mod chain;
pub(crate) mod worker;
