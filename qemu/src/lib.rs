//! Runs nodes in QEMU: a machine described as data, the booted virtual machine, and a client of its API.
//!
//! `machine` and `arguments` are pure; `vm` acts. Everything waits for a condition with one deadline.

pub mod accelerator;
pub mod arguments;
pub mod client;
pub mod console;
pub mod fingerprint;
pub mod injector;
pub mod machine;
pub mod marker;
pub mod qmp;
pub mod vm;
pub mod wait;

pub use accelerator::Accelerator;
pub use client::NodeClient;
pub use machine::{Boot, Display, Firmware, Forward, Machine, Media};
pub use marker::{Marker, Ready};
pub use vm::Vm;
