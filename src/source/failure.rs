//! Where the source is told that it can't go on.
//!
//! What reads or recovers a partition does so by itself: ended by a panic, it would leave the partition silent for ever,
//! with all of it looking well. So each is watched.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::Error;

/// Tells it; clones tell the same source.
#[derive(Debug, Clone)]
pub(super) struct Failure(watch::Sender<Option<Error>>);

impl Failure {
    /// Returns the one who tells, and what is told.
    pub(super) fn new() -> (Self, watch::Receiver<Option<Error>>) {
        let (sender, told) = watch::channel(None);
        (Self(sender), told)
    }

    pub(super) fn tell(&self, error: Error) {
        self.0.send_replace(Some(error));
    }

    /// Sees to it that `work` comes to an end of its own: tells if it panics, or returns `None` because what it waited
    /// for did.
    pub(super) async fn watch(self, name: &'static str, work: impl Future<Output = Option<()>>) {
        if !matches!(AssertUnwindSafe(work).catch_unwind().await, Ok(Some(()))) {
            self.tell(Error::Fatal { reason: format!("{name} ended by a panic, or never began") });
        }
    }
}
