//! What the system tests share: a real OpenAI client, and a runner for tests on machines that are shared.

pub mod openai;
pub mod runner;
pub mod tally;
