//! The agent from outside: over real TLS on loopback, real Unix sockets, and once as its own program.

#![expect(
    clippy::unwrap_used,
    reason = "a test's support code may panic like the test itself"
)]

mod model_api;
mod node;
mod support;
