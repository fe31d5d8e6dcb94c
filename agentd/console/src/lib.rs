//! What a person at the machine sees: the screen on tty1, and lines on serial consoles.
//!
//! ```text
//! agent's local socket --+
//! PID 1's services.json -+-> observe -> Picture --> view -----> screen   (tty1, changed lines only)
//! /sys/class/net --------+                     \-> announce --> serial   (JSON and people's lines, once each)
//! ```
//! `view` and `announce` are pure. No write waits: a stuck serial line holds up nothing.

mod announce;
mod http;
mod observe;
mod picture;
mod screen;
mod serial;
mod status;
mod text;
mod view;

pub use announce::{Announcer, Message};
pub use http::{FetchError, get};
pub use observe::{Observer, Sources, uptime_ms};
pub use picture::{Agent, Link, Picture};
pub use screen::Screen;
pub use serial::{Port, serial_consoles};
pub use status::{Address, Engine, InitReport, Memory, SelfTest, Status, Unit};
pub use text::{Line, Size, Span, Style};
pub use view::render;
