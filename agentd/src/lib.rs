//! The agent: everything with policy on a node, unprivileged. It listens on 443 (API and page), on 80
//! (redirect and CA certificate) and on a local socket for the console; it finds engine processes by
//! their sockets and proves them with the self-test.
//!
//! ```text
//! client --TLS--> listen --> routes --+--> relay --> engine socket
//!                                     +--> node state <-- watchers (addresses, engines)
//! ```
//! **Invariant:** the agent can die at any moment: what it acknowledged is in its state directory, and
//! what engines do is found again through their sockets.

mod addresses;
mod agent;
mod config;
mod engines;
pub mod journal;
mod listen;
mod local;
mod machine;
mod node;
mod notify;
mod routes;
mod services;
mod status;

pub use agent::{Agent, StartError};
pub use config::{Config, ConfigError, Limits};
pub use mnemos_relay::chain;
