//! The agent's root helper: a short list of typed operations behind a Unix socket.
//!
//! The agent holds no capability; what needs root is asked for here. A request is one of an enumerated
//! set ([`protocol::Operation`]), never a command line, a path or bytes from the network.
//!
//! ```text
//! mnemos-agentd --(one request, one response, line JSON)--> mnemos-hostd --> kernel, PID 1
//! ```
//!
//! Who may ask: root and the agent's user, told by `SO_PEERCRED`. Every request leaves an audit line in the
//! journal, also a refused one.

pub mod client;
mod error;
mod line;
pub mod power;
pub mod protocol;
pub mod server;
pub mod socket;

pub use error::chain;
