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
    commit_positions(writer, positions)
        .map(|()| journal_offsets(records, &offsets))
        .map_err(|(error, kind)| Failure::Aborted { error, kind })
}

/// Commits until the broker takes it: the records are out, and a batch that is tried anew publishes them once more. Only
/// what waiting does not heal ends it; a member that was replaced can't commit before it has given up what it holds,
/// and that waits for this.
fn commit_positions(
    writer: &Writer,
    positions: &[(PartitionId, Offset, &str)],
) -> Result<(), (Error, Kind)> {
    loop {
        let Err(error) = writer.membership.commit(positions) else { return Ok(()) };
        let passing = matches!(error.kind, Kind::Unreachable | Kind::TimedOut);
        let kind = error.kind;
        let error = error.during("commit positions");
        if !passing || writer.abandon.is_cancelled() {
            return Err((Error::of(kind, error.reason), kind));
        }
        writer.reporter.waiting(error.to_string());
        writer.pause(COMMIT_AGAIN);
    }
}
