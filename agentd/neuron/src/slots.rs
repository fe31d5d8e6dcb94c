//! Who may use the engine: one request at a time, a bounded number waits in order of arrival.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// mistral.rs only batches sequences of equal length on a CPU, and admits all of them without a limit
/// when none is running; one at a time loses nothing and keeps the memory bounded.
pub const RUNNING: u32 = 1;

/// The engine's waiting room.
#[derive(Debug, Clone)]
pub struct Slots {
    running: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    limit: u32,
}

/// The right to use the engine; ends when dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// As many requests wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} requests wait already; try again later")]
pub struct Full(pub u32);

/// Counts one that waits, also when the wait is given up.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// At most `limit` requests wait.
    pub fn new(limit: u32) -> Self {
        Self {
            running: Arc::new(Semaphore::new(RUNNING as usize)),
            waiting: Arc::new(AtomicU32::new(0)),
            limit,
        }
    }

    /// Waits for a turn. Dropping the future gives the place in the queue up.
    ///
    /// # Errors
    /// [`Full`], at once.
    pub async fn acquire(&self) -> Result<Slot, Full> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(Slot(permit));
        }
        let grown = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < self.limit).then_some(waiting + 1)
            });
        if grown.is_err() {
            return Err(Full(self.limit));
        }
        let _waiting = Waiting(&self.waiting);
        // The semaphore is never closed.
        self.running
            .clone()
            .acquire_owned()
            .await
            .map(Slot)
            .map_err(|_| Full(self.limit))
    }

    /// Requests the engine works on.
    pub fn running(&self) -> u32 {
        let free = u32::try_from(self.running.available_permits()).unwrap_or(RUNNING);
        RUNNING.saturating_sub(free)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Polls a future once.
    async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            value = future => Some(value),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn one_runs_some_wait_the_rest_is_refused() {
        let slots = Slots::new(1);
        let running = slots.acquire().await.unwrap();
        let mut second = pin!(slots.acquire());
        assert!(once(&mut second).await.is_none());
        assert_eq!((slots.running(), slots.waiting()), (1, 1));
        assert_eq!(slots.acquire().await.err(), Some(Full(1)));
        drop(running);
        let second = second.await.unwrap();
        assert_eq!((slots.running(), slots.waiting()), (1, 0));
        drop(second);
        assert_eq!(slots.running(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_queue() {
        let slots = Slots::new(1);
        let _running = slots.acquire().await.unwrap();
        assert!(once(slots.acquire()).await.is_none());
        assert_eq!(slots.waiting(), 0);
    }
}
