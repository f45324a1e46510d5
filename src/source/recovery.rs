//! Finds out, before anything of a partition is read, where to begin and what is known of its unfinished runs.
//!
//! The order matters: the committed offset and its metadata first, waiting for pending ones, *then* the journal's end as
//! a read_uncommitted reader sees it, then the journal up to there. The markers of a committed transaction reach the
//! group's offsets and the journal at different moments, so a reader that stopped at the last stable offset could miss
//! records whose offsets it has seen already.
//! One thread recovers the partitions of one assignment; those that can't be told yet don't hold up the others, and get
//! another thread where the others' journals are read meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    failpoint::{self, Mechanism, Point},
    journal::{Effect, Map, Scope},
    kafka::{
        self, Committed, Config, Ends, Error, ForeignMetadata, Identity, Membership, Pending,
        Plain, Reporter, committed, ends, hanging_hint, longest_transaction, thread,
    },
    record::{Epoch, Offset, PartitionId},
    telemetry::Metrics,
};

use super::{
    effects::{self, Stretch},
    first,
    reader::beyond,
    status::Status,
};

/// How long a question may take that is about all partitions, and one that is about a single one.
const QUESTION: Duration = Duration::from_secs(2);
const QUESTION_OF_ONE: Duration = Duration::from_millis(500);

/// How long to wait before partitions that could not be told are asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// After how long clients that have not been told everything are made anew. Nobody polls the one that asks for ends, so
/// that it has lost its brokers for good would not be known.
const ANEW: Duration = Duration::from_secs(5);

/// For how long a position past the log's end may be a leader's that has just been elected.
const END_SETTLES: Duration = Duration::from_secs(5);

/// What all recoveries share.
pub(super) struct Recovering {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) reporter: Reporter,
    pub(super) journal_is_ahead: bool,
    pub(super) membership: Membership,
    pub(super) metrics: Metrics,
    pub(super) status: Arc<Status>,
    /// Held while the group's first position is decided, so that a partition is not given up in the middle of that.
    pub(super) deciding: Arc<tokio::sync::Mutex<()>>,
}

/// A partition to recover.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    /// Cancelled when the partition is given up, or the process ends.
    pub(super) cancelled: CancellationToken,
}

/// The most recoveries that one assignment is split into.
const PARTS_MAX: u8 = 8;

/// What a recovery has found.
#[derive(Debug)]
pub(super) enum Found {
    /// These can be read.
    Ready(Vec<Restored>),
    /// These can't be told yet, and are to be asked for while the recovery that found that reads others' journals.
    Untold(Open),
    /// This one must not be, for this reason.
    Stopped(Ticket, String),
    /// This one is read, and has to be read from elsewhere: its log begins further ahead by now.
    Moved { partition: PartitionId, epoch: Epoch },
}

/// A committed offset with its metadata.
type Position = (Offset, Vec<u8>);

/// A recovered partition.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) ticket: Ticket,
    pub(super) start: Offset,
    pub(super) map: Option<Map>,
    pub(super) effects: Vec<(Offset, Effect)>,
    pub(super) journal_end: Offset,
}

/// The recovery of one assignment, or of a part of it.
pub(super) struct Job {
    pub(super) shared: Arc<Recovering>,
    pub(super) open: Open,
    pub(super) found: mpsc::Sender<Found>,
}

/// The partitions that are still to be recovered.
#[derive(Debug)]
pub(super) struct Open {
    tickets: Vec<Ticket>,
    began: Instant,
    /// Of each partition that can't be told, what was seen of it.
    waits: BTreeMap<PartitionId, Wait>,
    /// How often they were split off others.
    parts: u8,
}

/// Why a partition has to wait, and since when: the patience with each reason begins when that reason is seen, which may
/// be long after the assignment.
#[derive(Debug, Default)]
pub(super) struct Wait {
    pending: Pending,
    /// Since when its position has been past the log's end.
    beyond: Option<Instant>,
}

/// The clients that a recovery asks. Closing them blocks, so they never die on the runtime.
pub(super) struct Clients {
    /// Reads committed offsets and the journal.
    pub(super) reader: BaseConsumer<Plain>,
    /// Sees the true ends of logs.
    pub(super) ends: BaseConsumer<Plain>,
    made: Instant,
}

impl Open {
    pub(super) fn new(tickets: Vec<Ticket>) -> Self {
        Self { tickets, began: Instant::now(), waits: BTreeMap::new(), parts: 1 }
    }

    /// Takes out what is not among `kept`; `None` where that is nothing, or it was split often enough.
    fn split(&mut self, kept: &[PartitionId]) -> Option<Self> {
        let is_kept = |ticket: &Ticket| kept.contains(&ticket.partition);
        if self.parts >= PARTS_MAX || self.tickets.iter().all(is_kept) {
            return None;
        }
        self.parts += 1;
        let tickets = self.tickets.extract_if(.., |ticket| !is_kept(ticket)).collect();
        let waits = std::mem::take(&mut self.waits);
        Some(Self { tickets, waits, began: self.began, parts: self.parts })
    }
}

impl Job {
    /// Recovers until every partition is told, or given up. Blocks.
    pub(super) fn run(mut self) {
        let mut clients: Option<Clients> = None;
        loop {
            self.open.tickets.retain(|ticket| !ticket.cancelled.is_cancelled());
            if self.open.tickets.is_empty() || self.found.is_closed() {
                return;
            }
            if let Err(error) = self.round(&mut clients) {
                for ticket in self.open.tickets.clone() {
                    self.hold(&ticket, &error);
                }
            }
            if !self.open.tickets.is_empty() {
                if let Some(old) = clients.take_if(|clients| clients.made.elapsed() >= ANEW) {
                    thread::close(old);
                }
                park_timeout(ASK_AGAIN);
            }
        }
    }

    fn round(&mut self, clients: &mut Option<Clients>) -> Result<(), Error> {
        let clients = match clients {
            Some(clients) => clients,
            None => clients.insert(Clients::create(&self.shared)?),
        };
        let told = self.ask(clients)?;
        failpoint::reach(Point::RecoveryAsked);
        let positions = self.positions(clients, told);
        let partitions: Vec<_> = positions.iter().map(|(ticket, _)| ticket.partition).collect();
        let Config { workflow_events_topic: events, journal_topic: journal, .. } =
            &self.shared.config;
        let mut logs = clients.ends(events, &partitions);
        let mut journals = clients.journal_ends(journal, &partitions);
        let mut recoverable = Vec::new();
        for (ticket, position) in positions {
            let log = logs.remove(&ticket.partition);
            let journal = journals.remove(&ticket.partition);
            let (Some(log), Some(journal)) = (log, journal) else { continue };
            let journal = journal.map_err(|error| error.during("look at the journal"));
            match log.and_then(|log| Ok((log, journal?))) {
                Ok(ends) => recoverable.extend(self.restore(&ticket, position, ends)),
                Err(error) => self.hold(&ticket, &error),
            }
        }
        if recoverable.iter().any(Stretch::needs_reading) {
            let told: Vec<_> = recoverable.iter().map(|one| one.ticket.partition).collect();
            let untold = self.open.split(&told);
            untold.into_iter().for_each(|untold| self.send(Found::Untold(untold)));
        }
        let shared = Arc::clone(&self.shared);
        effects::read(&clients.reader, recoverable, &shared, |read| self.hand_over(read))
    }

    /// Returns the positions that are known of those that were told, or decides them; the others are asked for again.
    fn positions(&mut self, clients: &Clients, told: Vec<Committed>) -> Vec<(Ticket, Position)> {
        let mut first = first::Asked::default();
        let mut positions = Vec::new();
        for Committed { partition, position } in told {
            let Some(ticket) =
                self.open.tickets.iter().find(|one| one.partition == partition).cloned()
            else {
                continue;
            };
            let position = match position {
                Ok(None) => first.position(&self.shared, clients, &ticket),
                told => told,
            };
            match position {
                Ok(position) => positions.extend(position.map(|position| (ticket, position))),
                Err(error) => self.hold(&ticket, &error),
            }
        }
        positions
    }

    /// Asks for all open partitions; when one of them can't be told yet, for each by itself.
    fn ask(&mut self, clients: &Clients) -> Result<Vec<Committed>, Error> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.config.workflow_events_topic;
        let partitions: Vec<_> = self.open.tickets.iter().map(|ticket| ticket.partition).collect();
        match committed(&clients.reader, topic, &partitions, QUESTION) {
            Ok(told) => return Ok(told),
            Err(error) if partitions.len() == 1 => return Err(error),
            Err(_) => {}
        }
        let mut told = Vec::new();
        for ticket in self.open.tickets.clone() {
            if ticket.cancelled.is_cancelled() {
                continue;
            }
            match committed(&clients.reader, topic, &[ticket.partition], QUESTION_OF_ONE) {
                Ok(one) => told.extend(one),
                Err(error) => self.hold(&ticket, &error),
            }
        }
        Ok(told)
    }

    /// Judges a committed position by the ends of its log and of its journal; `None` when the partition is stopped, or
    /// must be asked for again.
    fn restore(
        &mut self,
        ticket: &Ticket,
        (offset, metadata): Position,
        ((low, high), (journal_low, end)): ((Offset, Offset), (Offset, Offset)),
    ) -> Option<Stretch> {
        let partition = ticket.partition;
        let is_beyond = offset > high;
        let wait = self.open.waits.entry(partition).or_default();
        let stays_beyond = wait.stays_beyond(is_beyond, Instant::now());
        if stays_beyond {
            self.stop(ticket, beyond(offset, high));
        }
        if is_beyond {
            return None;
        }
        let start = offset.max(low);
        if start > offset {
            error!(
                partition = partition.0,
                from = offset.0,
                to = start.0,
                "records were deleted before they were read: the topic's retention is shorter than the backlog"
            );
        }
        let map = match self.decode(partition, offset, &metadata) {
            Ok(map) => map.map(|map| cut(map, start)),
            Err(reason) => {
                self.stop(ticket, reason);
                return None;
            }
        };
        let base = map.as_ref().map_or(end, |map| map.journal_base);
        if base < journal_low || base > end {
            warn!(
                partition = partition.0, journal_base = %base, journal_start = %journal_low, journal_end = %end,
                "effects of unfinished runs are gone from the journal: what they paid for is paid again"
            );
        }
        let from = base.max(journal_low);
        let ahead = map.as_ref().map(|map| map.next).filter(|_| self.shared.journal_is_ahead);
        Some(Stretch::new(ticket.clone(), start, map, (from..end, ahead)))
    }

    fn decode(
        &self,
        partition: PartitionId,
        offset: Offset,
        metadata: &[u8],
    ) -> Result<Option<Map>, String> {
        // The first position, or an operator's reset: begin anew from there.
        if metadata.is_empty() {
            return Ok(None);
        }
        let config = &self.shared.config;
        let scope = Scope {
            group: &config.consumer_group_id,
            topic: &config.workflow_events_topic,
            partition,
        };
        match (Map::decode(metadata, &scope, offset), config.foreign_metadata) {
            (Ok(map), _) => Ok(Some(map)),
            (Err(error), ForeignMetadata::Ignore) => {
                warn!(partition = partition.0, offset = offset.0, %error, "ignored the metadata of the committed offset");
                Ok(None)
            }
            (Err(error), ForeignMetadata::Fail) => Err(format!(
                "committed offset {offset}: {error}; reset the group's offset for it, or set \
                 KAFKA_FOREIGN_METADATA=ignore to go on from it"
            )),
        }
    }

    /// Takes over partitions whose journal is read.
    fn hand_over(&mut self, stretches: Vec<Stretch>) {
        if stretches.is_empty() {
            return;
        }
        let done: Vec<_> = stretches.iter().map(|stretch| stretch.ticket.partition).collect();
        self.open.tickets.retain(|ticket| !done.contains(&ticket.partition));
        failpoint::reach(Point::RecoveryRead);
        for stretch in &stretches {
            let (partition, kept) = (stretch.ticket.partition, stretch.effects.len());
            self.shared.metrics.recovery(partition.0, stretch.read, kept as u64);
            info!(
                partition = partition.0,
                offset = stretch.start.0,
                unsettled = stretch.map.as_ref().map_or(0, |map| map.unsettled.len()),
                journal_records = stretch.read,
                effects = kept,
                took = ?self.open.began.elapsed(),
                "recovered partition"
            );
        }
        self.send(Found::Ready(stretches.into_iter().map(Stretch::into_restored).collect()));
    }

    fn stop(&mut self, ticket: &Ticket, reason: String) {
        self.open.tickets.retain(|open| open.partition != ticket.partition);
        self.send(Found::Stopped(ticket.clone(), reason));
    }

    fn send(&self, found: Found) {
        // The source has ended: nobody reads these partitions any more.
        drop(self.found.blocking_send(found));
    }

    /// Tells why a partition is not recovered yet. It is asked for again.
    fn hold(&mut self, ticket: &Ticket, error: &Error) {
        let Recovering { config, reporter, status, .. } = &*self.shared;
        let wait = self.open.waits.entry(ticket.partition).or_default();
        let waited = wait.pending.note(error, reporter, Instant::now());
        if self.open.began.elapsed() < QUESTION * 2 {
            return;
        }
        let hint = hanging_hint(waited, config);
        let reason = format!("{}{hint}", reporter.explain(error.clone()).reason);
        if waited < longest_transaction(config) {
            status.held(ticket.partition, ticket.epoch, reason);
        } else {
            status.hanging(ticket.partition, ticket.epoch, &reason);
        }
    }
}

impl Wait {
    /// Notes whether a position is past the log's end at `now`, and says whether it has been for too long.
    pub(super) fn stays_beyond(&mut self, is_beyond: bool, now: Instant) -> bool {
        if !is_beyond {
            self.beyond = None;
            return false;
        }
        now.saturating_duration_since(*self.beyond.get_or_insert(now)) >= END_SETTLES
    }
}

impl Clients {
    fn create(shared: &Recovering) -> Result<Self, Error> {
        let Recovering { config, identity, reporter, .. } = shared;
        let reader = kafka::reader(config, identity, reporter)?;
        let native = kafka::watermarks(config, identity);
        let ends = BaseConsumer::from_config_and_context(&native, Plain::new(reporter))?;
        Ok(Self { reader, ends, made: Instant::now() })
    }

    /// Returns where each log begins and ends, open transactions included.
    pub(super) fn ends(&self, topic: &str, partitions: &[PartitionId]) -> Ends {
        ends_of_each(&self.ends, topic, partitions)
    }

    /// Returns where each journal begins and ends, open transactions included.
    fn journal_ends(&self, topic: &str, partitions: &[PartitionId]) -> Ends {
        if failpoint::is_off(Mechanism::JournalToItsEnd) {
            return ends_of_each(&self.reader, topic, partitions);
        }
        self.ends(topic, partitions)
    }
}

/// Asks for the ends of all logs; when one of them can't be told, for each by itself.
pub(super) fn ends_of_each(
    client: &BaseConsumer<Plain>,
    topic: &str,
    partitions: &[PartitionId],
) -> Ends {
    if let Ok(all) = ends(client, topic, partitions, QUESTION) {
        return all;
    }
    let alone = |partition: &PartitionId| {
        let one = ends(client, topic, std::slice::from_ref(partition), QUESTION_OF_ONE);
        one.unwrap_or_else(|error| Ends::from([(*partition, Err(error))]))
    };
    partitions.iter().flat_map(alone).collect()
}

/// Returns the map without what lies before the log's start.
fn cut(mut map: Map, start: Offset) -> Map {
    map.unsettled.retain(|offset| *offset >= start);
    map.next = map.next.max(start);
    map
}
