//! What is too late: read off the record when it comes, and told when its turn has come.

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::event;
use crate::record::{DEADLINE_HEADER, Position, Record};
use crate::sink::Publisher;
use crate::workflow::{Expiry, Job};

use super::Driver;

impl<P: Publisher> Driver<P> {
    /// Returns the end of an event's time. A header that can't be read is passed over: the event itself is sound, and
    /// an answer that may be too late is worth more than none.
    pub(super) fn expiry(
        &mut self,
        record: &Record,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Expiry> {
        let deadline = record.deadline.as_deref().and_then(|value| {
            let deadline = event::deadline(value);
            if deadline.is_none() {
                self.unreadable(record.position);
            }
            deadline
        });
        let age = (record.timestamp_ms, self.parts.event_ttl);
        Expiry::of(deadline, age, (now, wall))
    }

    /// Says it once; a client that errs does so with every event.
    fn unreadable(&mut self, position: Position) {
        self.parts.metrics.deadline_unreadable();
        if std::mem::replace(&mut self.unreadable_told, true) {
            return;
        }
        let Position { partition, offset, .. } = position;
        warn!(
            partition = partition.0,
            offset = offset.0,
            "passed over a header {DEADLINE_HEADER} that is neither an RFC 3339 timestamp nor milliseconds since the \
             Unix epoch; said once, counted in weir_deadlines_unreadable_total"
        );
    }

    pub(super) fn shed(&mut self, position: Position, job: &Job, attempts: u32) {
        // Only what has an end is ever too late.
        let Some(Expiry { late, .. }) = job.expiry else { return };
        debug!(event_id = %job.event.event_id, attempts, "shed event: {late}");
        let outcome = self.parts.press.expired(job, position, (attempts, late), Timestamp::now());
        let records = self.count(outcome);
        self.machine.shed(position, records, Instant::now());
    }
}
