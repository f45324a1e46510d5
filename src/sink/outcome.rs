//! What became of a batch whose answer was lost: read from the group's committed offsets, never inferred.

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::{
    kafka::{self, Committed, Error, Pending, Plain},
    record::{Offset, PartitionId},
};

use super::{CommitPosition, writer::Writer};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(3);

/// For how long it is tried to read what was committed earlier.
const PATIENCE: Duration = Duration::from_secs(6);

const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Says whether the batch with these positions was applied; `None` when the process ends before that is known.
///
/// One position that is committed exactly as the batch would have it proves all of it: the metadata is this batch's
/// alone, and a transaction is applied whole. That none is, proves the contrary as far as it matters: a partition whose
/// next owner has committed since is not ours to act on any more.
pub(super) fn read_back(writer: &Writer, positions: &[CommitPosition]) -> Option<bool> {
    let mut pending = Pending::default();
    let mut alarmed = false;
    let mut reader = None;
    while !writer.abandon.is_cancelled() {
        match ask(writer, &mut reader, positions) {
            Ok(applied) => return Some(applied),
            Err(error) => {
                let waited = pending.note(&error, &writer.reporter, Instant::now());
                let hint = kafka::hanging_hint(waited, &writer.config);
                let reason =
                    format!("the outcome of the last transaction can't be read yet: {error}{hint}");
                if !hint.is_empty() && !std::mem::replace(&mut alarmed, true) {
                    error!(reason, "a transaction hangs");
                }
                writer.reporter.waiting(reason);
            }
        }
        writer.pause(ASK_AGAIN);
    }
    None
}

/// Says which position is behind what had been committed: positions never go back by themselves. `None` where none is,
/// or where that can't be read in time.
pub(super) fn undone(writer: &Writer, positions: &[(PartitionId, Offset)]) -> Option<String> {
    let since = Instant::now();
    let mut reader = None;
    while !writer.abandon.is_cancelled() && since.elapsed() < PATIENCE {
        let partitions: Vec<_> = positions.iter().map(|(partition, _)| *partition).collect();
        let Ok(found) = read(writer, &mut reader, &partitions) else {
            writer.pause(ASK_AGAIN);
            continue;
        };
        return positions.iter().find_map(|(partition, ours)| {
            let committed = found.iter().find(|it| it.partition == *partition)?;
            let (offset, _) = committed.position.as_ref().ok()?.as_ref()?;
            (offset < ours).then(|| format!("partition {partition} is at {offset}, not at {ours}"))
        });
    }
    warn!("what was committed before the brokers were away can't be read back yet");
    None
}

fn read(
    writer: &Writer,
    reader: &mut Option<BaseConsumer<Plain>>,
    partitions: &[PartitionId],
) -> Result<Vec<Committed>, Error> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(kafka::reader(&writer.config, &writer.identity, &writer.reporter)?),
    };
    kafka::committed(reader, &writer.config.workflow_events_topic, partitions, QUESTION)
}

fn ask(
    writer: &Writer,
    reader: &mut Option<BaseConsumer<Plain>>,
    positions: &[CommitPosition],
) -> Result<bool, Error> {
    let partitions: Vec<PartitionId> =
        positions.iter().map(|position| position.partition).collect();
    let mut unknown = None;
    for committed in read(writer, reader, &partitions)? {
        let partition = committed.partition;
        match committed.position {
            Ok(found) => {
                let ours = positions.iter().find(|position| position.partition == partition);
                if let (Some(ours), Some((offset, metadata))) = (ours, found)
                    && ours.offset == offset
                    && ours.metadata.as_bytes() == metadata
                {
                    return Ok(true);
                }
            }
            Err(error) => unknown = Some(error),
        }
    }
    unknown.map_or(Ok(false), Err)
}
