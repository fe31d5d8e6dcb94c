//! The self-test model: a small Llama-architecture language model, trained here on text about MNEMOS
//! that lives in `corpus/`, and committed in `model/`. A node runs it at boot to prove that its
//! engine works with no internet and no disk. It is not an assistant.
//!
//! ```text
//! corpus/*.txt -> corpus -> tokenizer, batch -> train (model, optimizer) -> gguf -> model.gguf
//!                                                     model.gguf -> infer -> eval -> report
//! ```

pub mod batch;
pub mod chat;
pub mod corpus;
pub mod error;
pub mod eval;
pub mod gguf;
pub mod infer;
pub mod model;
pub mod optimizer;
pub mod report;
pub mod rng;
pub mod shape;
pub mod tokenizer;
pub mod train;
