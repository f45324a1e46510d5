//! At least once: the same batches for brokers without transactions. Records are produced and awaited, then the positions
//! are committed with their maps. A crash in between publishes the records again.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    kafka::Kind,
    record::{Offset, PartitionId},
};

use super::{
    Error, Outgoing,
    transaction::{Failure, Outcome, Producer, deliver, describe_undelivered, journal_offsets},
    writer::Writer,
};

const COMMIT_AGAIN: Duration = Duration::from_millis(100);

pub(super) fn commit(
    writer: &Writer,
    producer: &Producer,
    records: &[Outgoing],
    positions: &[(PartitionId, Offset, &str)],
) -> Result<Vec<(usize, Offset)>, Failure> {
    use rdkafka::producer::Producer as _;

    let deadline = Instant::now() + writer.config.transaction_timeout;
    let offsets = deliver(producer, &writer.config, records, deadline).map_err(|undelivered| {
        let (error, kind) = describe_undelivered(records, &undelivered);
        // An idempotent producer that lost count can't go on.
        if producer.client().fatal_error().is_some() {
            Failure::Broken { error, kind: Kind::Other, outcome: Outcome::NotApplied }
        } else {
            Failure::Aborted { error, kind }
        }
    })?;
    loop {
        let Err(error) = writer.membership.commit(positions) else {
            return Ok(journal_offsets(records, &offsets));
        };
        let passing = matches!(error.kind, Kind::Unreachable | Kind::TimedOut);
        if !passing || writer.abandon.is_cancelled() || Instant::now() >= deadline {
            let kind = error.kind;
            let error = Error::of(kind, error.during("commit positions").reason);
            return Err(Failure::Aborted { error, kind });
        }
        writer.pause(COMMIT_AGAIN);
    }
}
