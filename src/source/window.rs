//! Room for records: a window per assignment, and a budget of bytes that all partitions share.
//!
//! A record is read only when there is room for it, so memory is bounded by these two and not by the backlog. A size is
//! known only once a record is here; so bytes may be exceeded, by one record per partition.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, Semaphore};

/// Gives back the room that the records of one assignment took.
///
/// Clones share the same room.
#[derive(Debug, Clone)]
pub struct Window {
    records: Arc<Semaphore>,
    budget: Arc<Budget>,
}

/// Bytes that all partitions share.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Window {
    pub(super) fn new(records_max: usize, budget: &Arc<Budget>) -> Self {
        Self { records: Arc::new(Semaphore::new(records_max)), budget: Arc::clone(budget) }
    }

    /// Returns a window of `records_max` records and `bytes_max` bytes that shares neither with anybody: for tests of
    /// those who give room back.
    #[must_use]
    pub fn alone(records_max: usize, bytes_max: usize) -> Self {
        Self::new(records_max, &Arc::new(Budget::new(bytes_max)))
    }

    /// Gives back the room of `records` records whose sizes sum up to `bytes`.
    pub fn release(&self, records: usize, bytes: usize) {
        self.records.add_permits(records);
        self.budget.release(bytes);
    }

    /// Ends the partition's reader: it reads nothing more, whatever room there is.
    pub fn close(&self) {
        self.records.close();
    }

    /// Returns for how many more records there is room now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.records.available_permits()
    }

    /// Waits for room for one more record; `false` when the window is closed.
    pub(super) async fn room(&self) -> bool {
        let Ok(permit) = self.records.acquire().await else { return false };
        self.budget.room().await;
        permit.forget();
        true
    }

    /// Takes room for one more record, if there is some now.
    pub(super) fn try_room(&self) -> bool {
        let free = self.budget.has_room();
        free && self.records.try_acquire().map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Takes the bytes of a record that was read.
    pub(super) fn take(&self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::AcqRel);
    }
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Acquire) < self.limit
    }

    async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before looking, so that what is given back meanwhile is not missed.
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        if self.has_room() {
            self.freed.notify_waiters();
        }
    }
}
