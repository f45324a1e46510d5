//! What became of a batch whose answer was lost: read from the group's committed offsets, never inferred.

use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use tokio::time::Instant;
use tracing::error;

use crate::{
    journal::{Map, Scope},
    kafka::{self, Committed, Config, Error, Pending, Plain, thread},
    record::PartitionId,
};

use super::{
    CommitPosition,
    writer::{Last, Writer},
};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(3);

/// For how long it is tried to read what was committed earlier.
const PATIENCE: Duration = Duration::from_secs(6);

const ASK_AGAIN: Duration = Duration::from_millis(200);

/// After how long a reader that could not tell is made anew. Nobody polls it, so that it has lost its brokers for good
/// would not be known.
const ANEW: Duration = Duration::from_secs(5);

/// A client that is asked for what is committed.
struct Reader {
    client: BaseConsumer<Plain>,
    made: Instant,
}

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

/// Says which of the positions that were committed has been undone: an offset that it settled is to be done again.
/// `None` where none has.
///
/// Not that a position is another by now: of a partition that has gone to somebody else, its next owner may have
/// committed since, but whoever goes on from ours settles no less.
///
/// # Errors
/// Why that can't be told in time.
pub(super) fn undone(writer: &Writer, last: &mut Last) -> Result<Option<String>, String> {
    let since = Instant::now();
    let mut reader = None;
    loop {
        let error = match compare(writer, &mut reader, &last.positions) {
            Ok(undone) => return Ok(undone),
            Err(error) => error,
        };
        if writer.abandon.is_cancelled() || since.elapsed() >= PATIENCE {
            let waited = last.pending.note(&error, &writer.reporter, Instant::now());
            let hint = kafka::hanging_hint(waited, &writer.config);
            return Err(format!(
                "what was committed before the brokers were away can't be read back yet: {error}{hint}"
            ));
        }
        writer.pause(ASK_AGAIN);
    }
}

fn compare(
    writer: &Writer,
    reader: &mut Option<Reader>,
    positions: &[CommitPosition],
) -> Result<Option<String>, Error> {
    let partitions: Vec<_> = positions.iter().map(|position| position.partition).collect();
    let mut unknown = None;
    for Committed { partition, position } in read(writer, reader, &partitions)? {
        let found = match position {
            Ok(found) => found,
            Err(error) => {
                unknown = Some(error);
                continue;
            }
        };
        let ours = positions.iter().find(|position| position.partition == partition);
        if let (Some(ours), Some((offset, metadata))) = (ours, found) {
            let Config { consumer_group_id: group, workflow_events_topic: topic, .. } =
                &writer.config;
            let scope = Scope { group, topic, partition };
            let settled = Map::or_anew(&ours.metadata, &scope, ours.offset);
            let again = Map::or_anew(metadata, &scope, offset);
            if let Some(again) = again.first_settled_by(&settled, ours.offset) {
                let ours = ours.offset;
                return Ok(Some(format!(
                    "partition {partition} is at {offset}, was at {ours}, and {again} is to be done again"
                )));
            }
        }
    }
    unknown.map_or(Ok(None), Err)
}

fn read(
    writer: &Writer,
    reader: &mut Option<Reader>,
    partitions: &[PartitionId],
) -> Result<Vec<Committed>, Error> {
    if let Some(old) = reader.take_if(|reader| reader.made.elapsed() >= ANEW) {
        thread::close(old);
    }
    let reader = match reader {
        Some(reader) => reader,
        None => {
            let client = kafka::reader(&writer.config, &writer.identity, &writer.reporter)?;
            reader.insert(Reader { client, made: Instant::now() })
        }
    };
    kafka::committed(&reader.client, &writer.config.workflow_events_topic, partitions, QUESTION)
}

fn ask(
    writer: &Writer,
    reader: &mut Option<Reader>,
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
