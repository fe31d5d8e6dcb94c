//! From the kernel's first process to the supervisor: `/init` in the initramfs, then PID 1 on the real root.

mod initramfs;
mod memory;
mod modules;
mod mounts;
mod root_image;
mod system;

pub use initramfs::{BootError, switch_to_root};
pub use memory::{MINIMUM_MIB, shortage, total_bytes};
pub use root_image::{ImageError, checksums};
pub use system::{System, set_up};
