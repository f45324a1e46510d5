//! Reads what the group has committed, as any reader may: no membership is needed, and none is touched.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::{
    Offset as NativeOffset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
};
use tokio::time::Instant;

use crate::record::{Offset, PartitionId};

use super::{Config, Error, Identity, Kind, Reporter, client, context::Plain, native};

/// What is committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: PartitionId,
    /// `None`: nothing is committed. `Err`: it can't be told, which is not the same.
    pub(crate) position: Result<Option<(Offset, Vec<u8>)>, Error>,
}

/// Where each partition's log begins, and one past its last record.
pub(crate) type Ends = BTreeMap<PartitionId, Result<(Offset, Offset), Error>>;

/// Creates a client that reads the group's offsets and its journal. Drop it off the runtime: closing it blocks.
pub(crate) fn reader(
    config: &Config,
    identity: &Identity,
    reporter: &Reporter,
) -> Result<BaseConsumer<Plain>, Error> {
    let native = client::reader(config, identity);
    Ok(BaseConsumer::from_config_and_context(&native, Plain::new(reporter))?)
}

/// Returns what is committed for each of the partitions of `topic`.
///
/// Offsets of a transaction that is still open are waited for. When they don't settle within `timeout` the whole call
/// fails, for partitions that are settled too: then ask for each by itself.
///
/// Blocks.
pub(crate) fn committed(
    reader: &BaseConsumer<Plain>,
    topic: &str,
    partitions: &[PartitionId],
    timeout: Duration,
) -> Result<Vec<Committed>, Error> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, partition.0);
    }
    let list = reader.committed_offsets(list, timeout)?;
    let lines = native::lines(&list);
    let committed = lines.into_iter().map(|line| Committed {
        partition: PartitionId(line.partition),
        position: match line.error {
            Some(code) => Err(code.into()),
            // librdkafka counts "no offset" as a negative one.
            None if line.offset < 0 => Ok(None),
            None => Ok(Some((Offset(line.offset), line.metadata))),
        },
    });
    Ok(committed.collect())
}

/// Returns where the logs of `partitions` begin and end, as the client's isolation lets it see: two requests to each
/// leader, however many partitions there are. When one can't be told within `timeout` the whole call may fail.
///
/// Blocks.
pub(crate) fn ends(
    client: &BaseConsumer<Plain>,
    topic: &str,
    partitions: &[PartitionId],
    timeout: Duration,
) -> Result<Ends, Error> {
    // In place of a time a broker takes these two, and librdkafka hands them through.
    let ask = |end: NativeOffset| {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(topic, partition.0, end)?;
        }
        Ok::<_, Error>(native::lines(&client.offsets_for_times(list, timeout)?))
    };
    let (beginnings, ends) = (ask(NativeOffset::Beginning)?, ask(NativeOffset::End)?);
    let ranges = beginnings.into_iter().zip(ends).map(|(beginning, end)| {
        let range = match beginning.error.or(end.error) {
            Some(code) => Err(code.into()),
            None => Ok((Offset(beginning.offset), Offset(end.offset))),
        };
        (PartitionId(beginning.partition), range)
    });
    Ok(ranges.collect())
}

/// For how long something has been pending while the brokers did answer.
#[derive(Debug, Default)]
pub(crate) struct Pending(Option<Instant>);

impl Pending {
    /// Notes why an offset could not be told at `now`, and returns for how long a transaction has been the reason. That
    /// no broker is there is another reason: a transaction may only end once they are back.
    pub(crate) fn note(&mut self, error: &Error, reporter: &Reporter, now: Instant) -> Duration {
        let is_pending = matches!(error.kind, Kind::Unstable | Kind::TimedOut);
        if !is_pending || reporter.is_unreachable() {
            self.0 = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.0.get_or_insert(now))
    }
}

/// Returns after what time a transaction that has not ended hangs.
///
/// A lone broker that is killed within a commit may, after its restart, end the transaction without writing its markers.
/// Its records then stay invisible and its offsets pending until its producer's next transaction on those partitions
/// ends it as well, or somebody ends it by hand.
pub(crate) fn longest_transaction(config: &Config) -> Duration {
    // The coordinator looks every 10 s for transactions that have timed out.
    config.transaction_timeout + Duration::from_secs(15)
}

/// Returns what to tell the operator when something has been pending for `waited`: nothing, as long as a transaction may
/// still be open.
pub(crate) fn hanging_hint(waited: Duration, config: &Config) -> String {
    if waited < longest_transaction(config) {
        return String::new();
    }
    format!(
        "; no transaction lasts this long ({} s): look for one that hangs with kafka-transactions.sh find-hanging, and \
         abort it (docs/operations.md)",
        waited.as_secs() / 10 * 10
    )
}
