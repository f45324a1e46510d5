//! The time that a run spends in line, which is not its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Counts how long the calls of one run have waited for their turn. Clones count together.
///
/// Waits that overlap count once: it is the time in which at least one call of the run stood in line.
#[derive(Debug, Clone, Default)]
pub struct QueueTime(Arc<Inner>);

/// A wait in progress; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the wait ends when this is dropped"]
pub struct Waiting(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waits: Mutex<Waits>,
    ended: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Waits {
    past: Duration,
    open: u32,
    since: Option<Instant>,
}

impl QueueTime {
    /// Returns the time waited so far, a wait in progress included.
    #[must_use]
    pub fn total(&self) -> Duration {
        let waits = *self.0.waits();
        waits.past + waits.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Starts a wait, which lasts until what this returns is dropped.
    pub fn wait(&self) -> Waiting {
        let mut waits = self.0.waits();
        waits.open += 1;
        waits.since.get_or_insert_with(Instant::now);
        drop(waits);
        Waiting(Arc::clone(&self.0))
    }

    /// Returns when a run that began at `begun` has used up `limit` of its own time.
    ///
    /// Never during a wait, and without waking for as long as one lasts: ten thousand runs in line cost nothing.
    pub async fn expire(&self, begun: Instant, limit: Duration) {
        loop {
            let ended = self.0.ended.notified();
            let waits = *self.0.waits();
            let Some(deadline) = begun.checked_add(limit.saturating_add(waits.past)) else {
                return std::future::pending().await;
            };
            if waits.since.is_some() {
                ended.await;
            } else if Instant::now() < deadline {
                sleep_until(deadline).await;
            } else {
                return;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.open = waits.open.saturating_sub(1);
        if waits.open == 0 {
            if let Some(since) = waits.since.take() {
                waits.past += since.elapsed();
            }
            drop(waits);
            self.0.ended.notify_waiters();
        }
    }
}

impl Inner {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
