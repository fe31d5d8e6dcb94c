//! System calls that rustix does not offer safely. The only unsafe code of this crate.
#![expect(
    unsafe_code,
    reason = "raw system calls; every block says why it is sound"
)]

mod child;
mod device;
mod notify;
mod signals;
mod spawn;

pub use device::{LoopDevice, Watchdog, is_power_key, reports_power_key};
pub use notify::{Datagram, receive, socket as notify_socket};
pub use signals::{Received, Signals, ask_init, signal_everyone};
pub use spawn::{
    ChildError, Directory, Place, Plan, Spawned, StdOutput, Step, fork_with_deadline, spawn,
};
