//! Holds calls back at start until the endpoint has answered once, or has had its time.
//!
//! A service that comes up before its model waits instead of spending its events' attempts. Once open it stays open.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Open, unless somebody watches the endpoint and it has not answered yet.
#[derive(Debug)]
pub(super) struct Gate {
    open: watch::Sender<bool>,
    opens: Instant,
}

impl Gate {
    /// Makes an open gate that can be shut until `patience` from now.
    pub(super) fn new(patience: Duration) -> Self {
        Self { open: watch::Sender::new(true), opens: Instant::now() + patience }
    }

    /// Shuts the gate. Whoever does must open it.
    pub(super) fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Opens the gate.
    pub(super) fn open(&self) {
        self.open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// Returns whether a call has to wait.
    pub(super) fn is_shut(&self) -> bool {
        !*self.open.borrow() && Instant::now() < self.opens
    }

    /// Waits until the gate is open or its time is over.
    pub(super) async fn pass(&self) {
        let mut open = self.open.subscribe();
        // Neither outcome matters: whatever let the call through, the endpoint itself tells what is wrong with it.
        drop(timeout_at(self.opens, open.wait_for(|open| *open)).await);
    }
}
