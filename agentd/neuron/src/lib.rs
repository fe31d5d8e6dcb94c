//! The engine worker: one process, one model, one Unix socket.
//!
//! `model_dir` and `gguf` check what is to be loaded, `engine` is the only module that knows
//! mistral.rs, `answer` turns one generation into protocol events, `server` and `connection` speak with
//! clients, `fault` ends the process when the engine cannot be trusted any more. README.md lists the
//! guards around mistral.rs.

pub mod answer;
pub mod bench;
pub mod budget;
pub mod cli;
pub mod connection;
pub mod cpu;
pub mod engine;
pub mod environment;
pub mod fault;
pub mod generation;
pub mod gguf;
pub mod log;
pub mod model_dir;
pub mod notify;
pub mod request;
pub mod server;
pub mod slots;
pub mod stop;
