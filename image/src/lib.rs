//! Builds what a node boots: the EROFS root image and the initramfs that carries it.
//!
//! ```text
//! packages/*.lock --fetch--> cache of .deb by hash --extract--> builder root, package root
//! checkout --cargo in the builder root--> our binaries --+
//! package root --root.files, modules.list--> staging ----+--> root.erofs --> initramfs.cpio
//! ```
//! Everything that ships is compiled and packed in the builder root, so the host contributes only
//! `mmdebstrap`, `bubblewrap`, `dpkg-deb` and the Rust toolchain.

mod assemble;
mod builder;
mod cache;
pub mod check;
pub mod cmd;
mod compile;
mod elf;
pub mod host;
mod lock;
mod modules;
mod packages;
pub mod progress;
pub mod tree;

pub use assemble::{Artifacts, build};
pub use builder::{Bind, Builder};
pub use cache::{Cache, checkout, source_date_epoch};
pub use compile::engine;
pub use packages::{Scratch, refresh, sha256, sha256_file};
