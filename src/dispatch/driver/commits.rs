//! Transactions: begun, and what their outcome means.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::failpoint::{self, Point};
use crate::record::{PartitionId, Record};
use crate::retry::Disposition;
use crate::sink::{self, Batch, Commit, Publisher, Topic};

use super::super::machine::Oversized;
use super::Driver;

impl<P: Publisher> Driver<P> {
    pub(super) fn commit(&mut self, batch: Batch, now: Instant) {
        self.committing_since = now;
        self.committing_records = batch.records.len() as u64;
        let journal = batch.records.iter().filter(|record| record.topic == Topic::Journal);
        self.committing_journal =
            journal.fold((0, 0), |(records, bytes), it| (records + 1, bytes + it.size() as u64));
        self.committing = Some(Box::pin(self.parts.publisher.commit(batch)));
    }

    pub(super) fn committed(&mut self, outcome: Commit) {
        self.committing = None;
        let now = Instant::now();
        let took = now - self.committing_since;
        match outcome {
            Commit::Applied { journal } => {
                self.parts.metrics.transaction("committed", took, self.committing_records);
                let (records, bytes) = self.committing_journal;
                self.parts.metrics.journal_records(records, bytes);
                failpoint::reach(Point::CommitAnswered);
                self.machine.applied(&journal);
                if records > 0 {
                    failpoint::reach(Point::JournalCommitted);
                }
                self.take_backlog();
            }
            Commit::Aborted { error } => {
                self.parts.metrics.transaction("aborted", took, self.committing_records);
                self.aborted(error, now);
            }
            Commit::NotAMember => {
                debug!("not a member of the group: nothing can be committed yet");
                self.machine.aborted(now);
            }
        }
    }

    fn aborted(&mut self, error: sink::Error, now: Instant) {
        match error.disposition() {
            Disposition::Stop => self.end = Some(Err(error)),
            Disposition::Retry { .. } | Disposition::Elsewhere => {
                warn!(class = error.class(), %error, "transaction aborted; its records are kept and tried again");
            }
            Disposition::Reject => {
                warn!(class = error.class(), %error, "transaction aborted; what does not fit is replaced");
                if self.refit() {
                    self.machine.refused();
                    return;
                }
            }
        }
        self.machine.aborted(now);
    }

    /// Prints events anew that their topics do not take any more: a topic's limit was lowered meanwhile. Says whether
    /// all fits now.
    fn refit(&mut self) -> bool {
        let limits = self.parts.press.limits();
        for oversized in self.machine.oversized(&limits) {
            let Oversized { position, job, attempts, records, size, limit } = oversized;
            let press = &self.parts.press;
            let records = match job {
                Some(job) => {
                    let why = (attempts, size, limit);
                    press.too_large(&job, position, why, Timestamp::now()).records
                }
                None => press.cut(records),
            };
            self.machine.replace(position, &records);
        }
        self.machine.oversized(&limits).is_empty()
    }

    pub(super) fn acknowledge(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            let window = self.windows.remove(partition);
            let backlog = self.backlog.remove(partition).unwrap_or_default();
            if let Some(window) = window {
                window.release(0, backlog.iter().map(Record::size).sum());
            }
        }
        // Whoever waited for a record of these partitions was cancelled.
        self.tickets.retain(|_, run| !run.is_closed());
        info!(?partitions, "gave partitions up");
        failpoint::reach(Point::RevokeGiven);
        if let Some(done) = self.revoked.take() {
            // The source may have gone already; then nobody waits for the answer.
            done.send(()).ok();
        }
    }
}
