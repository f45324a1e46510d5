//! Kafka's transactions in memory, for the delivery tests: a batch is applied whole or not at all, and faults are
//! made to order. What it holds outlives the process that a test "kills".

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{Batch, Commit, Error, Limits, Outgoing, Publisher, Topic, writer::check};
use crate::record::{Offset, PartitionId};

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is aborted: nothing of it is visible.
    Abort,
    /// The group has no place for us.
    NotAMember,
    /// It is applied, but its records' offsets are not known, as when the outcome had to be read back.
    AppliedBlindly,
    /// Nothing is heard of it until [`MemoryLog::release`].
    Held,
}

/// The log: topics, and the group's committed positions. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
    released: Notify,
    limits: watch::Sender<Limits>,
}

impl Default for Inner {
    fn default() -> Self {
        let limits = Limits { result_max: 1 << 20, dead_letter_max: 1 << 20, journal_max: 1 << 20 };
        Self {
            state: Mutex::default(),
            changed: Notify::default(),
            released: Notify::default(),
            limits: watch::Sender::new(limits),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Outgoing>,
    journal_end: i64,
    positions: BTreeMap<PartitionId, (Offset, String)>,
    faults: VecDeque<Fault>,
    commits: usize,
}

impl MemoryLog {
    /// Lets the next commits go wrong, one fault each.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Yields the largest records that it takes.
    pub(crate) fn limits(&self) -> watch::Receiver<Limits> {
        self.0.limits.subscribe()
    }

    /// Takes no larger records from here on.
    pub(crate) fn lower(&self, limits: Limits) {
        self.0.limits.send_replace(limits);
    }

    /// Lets every held commit go on.
    pub(crate) fn release(&self) {
        self.0.released.notify_waiters();
    }

    /// Returns the values of a topic, in the order in which they became visible.
    pub(crate) fn values(&self, topic: Topic) -> Vec<serde_json::Value> {
        let state = self.state();
        let records = state.records.iter().filter(|record| record.topic == topic);
        records.map(|record| serde_json::from_slice(&record.value).unwrap_or_default()).collect()
    }

    /// Returns what is committed for a partition.
    pub(crate) fn position(&self, partition: PartitionId) -> Option<(Offset, String)> {
        self.state().positions.get(&partition).cloned()
    }

    /// Returns how many transactions were applied.
    pub(crate) fn commits(&self) -> usize {
        self.state().commits
    }

    /// Waits until `reached` holds.
    pub(crate) async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    fn apply(&self, batch: Batch) -> Vec<(usize, Offset)> {
        let mut state = self.state();
        let mut journal = Vec::new();
        for (index, record) in batch.records.iter().enumerate() {
            if record.topic == Topic::Journal {
                journal.push((index, Offset(state.journal_end)));
                state.journal_end += 1;
            }
        }
        state.records.extend(batch.records);
        for position in batch.positions {
            state.positions.insert(position.partition, (position.offset, position.metadata));
        }
        state.commits += 1;
        drop(state);
        self.0.changed.notify_waiters();
        journal
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher for MemoryLog {
    fn commit(&mut self, batch: Batch) -> impl Future<Output = Commit> + Send + 'static {
        let log = self.clone();
        async move {
            let limits = *log.0.limits.borrow();
            if let Err(error) = check(&batch, &limits) {
                return Commit::Aborted { error };
            }
            let fault = log.state().faults.pop_front();
            match fault {
                None => Commit::Applied { journal: log.apply(batch) },
                Some(Fault::AppliedBlindly) => {
                    log.apply(batch);
                    Commit::Applied { journal: Vec::new() }
                }
                Some(Fault::NotAMember) => Commit::NotAMember,
                Some(Fault::Abort) => {
                    Commit::Aborted { error: Error::Replaced { reason: "test".into() } }
                }
                Some(Fault::Held) => {
                    log.0.released.notified().await;
                    Commit::Applied { journal: log.apply(batch) }
                }
            }
        }
    }
}
