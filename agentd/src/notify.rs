//! What the agent tells PID 1.

use sd_notify::NotifyState;

/// The ports are bound.
pub(crate) fn ready() {
    send(&[NotifyState::Ready]);
}

/// The agent is on its way out.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// One line for people, and a sign of life.
pub(crate) fn status(line: &str) {
    send(&[NotifyState::Status(line), NotifyState::Watchdog]);
}

/// A sign of life.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify PID 1: {error}");
    }
}
