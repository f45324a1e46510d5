//! Reads the journal of recovering partitions, keeping what unfinished runs still need and nothing else.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use rdkafka::{
    Message, Offset as NativeOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    failpoint::{self, Point},
    journal::{Effect, GROUP, Map},
    kafka::{Error, Plain, hanging_hint, header, lines, longest_transaction, rebootstrap},
    record::{Offset, PartitionId},
};

use super::recovery::{Recovering, Restored, Ticket};

/// How long to wait for a record before looking at the positions.
const POLL: Duration = Duration::from_millis(200);

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(500);

/// The part of the journal that a partition needs.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) ticket: Ticket,
    pub(super) start: Offset,
    pub(super) map: Option<Map>,
    /// What was kept, by journal offset.
    pub(super) effects: Vec<(Offset, Effect)>,
    /// How many records were read.
    pub(super) read: u64,
    journal: Range<Offset>,
    /// Events from here on may have effects too: the journal may be ahead of the map.
    ahead: Option<Offset>,
    unsettled: BTreeSet<Offset>,
    /// How many records were not ours to understand.
    strange: u64,
}

impl Stretch {
    pub(super) fn new(
        ticket: Ticket,
        start: Offset,
        map: Option<Map>,
        (journal, ahead): (Range<Offset>, Option<Offset>),
    ) -> Self {
        let unsettled = map.iter().flat_map(|map| map.unsettled.iter().copied()).collect();
        Self {
            ticket,
            start,
            map,
            effects: Vec::new(),
            read: 0,
            journal,
            ahead,
            unsettled,
            strange: 0,
        }
    }

    pub(super) fn into_restored(self) -> Restored {
        Restored {
            ticket: self.ticket,
            start: self.start,
            map: self.map,
            effects: self.effects,
            journal_end: self.journal.end,
        }
    }

    /// Nothing of the journal can matter where nothing is unfinished.
    pub(super) fn needs_reading(&self) -> bool {
        (!self.unsettled.is_empty() || self.ahead.is_some())
            && self.journal.start < self.journal.end
    }

    fn is_needed(&self, effect: &Effect) -> bool {
        let is_ahead = self.ahead.is_some_and(|next| effect.offset >= next);
        is_ahead || self.unsettled.contains(&effect.offset)
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, group: &str) {
        self.read += 1;
        failpoint::reach(Point::RecoveryReading);
        match message.payload().map(Effect::decode) {
            Some(Ok(effect)) if self.is_needed(&effect) => {
                if is_of_another(message, group) {
                    return;
                }
                self.effects.push((Offset(message.offset()), effect));
            }
            // The effect of a run that has ended.
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                if self.strange == 0 {
                    let (partition, offset) = (self.ticket.partition, message.offset());
                    warn!(partition = partition.0, offset, %error, "passed over a journal record");
                }
                self.strange += 1;
            }
            None => self.strange += 1,
        }
    }

    fn progress(&self) -> String {
        let all = self.journal.end.0.saturating_sub(self.journal.start.0);
        format!("{} of {} journal records", thousands(self.read), thousands(all.unsigned_abs()))
    }
}

/// Reads each stretch to its end, and hands over those that are there: nobody waits for another's journal. A stretch that
/// is given up meanwhile is dropped.
///
/// The end is where the position has passed it: transaction markers and aborted records take up offsets as well. Behind
/// an open transaction it waits until that ends.
pub(super) fn read(
    reader: &BaseConsumer<Plain>,
    stretches: Vec<Stretch>,
    shared: &Recovering,
    mut hand_over: impl FnMut(Vec<Stretch>),
) -> Result<(), Error> {
    let (open, done): (Vec<_>, Vec<_>) = stretches.into_iter().partition(Stretch::needs_reading);
    hand_over(done);
    if open.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    for Stretch { ticket, journal, .. } in &open {
        let from = NativeOffset::Offset(journal.start.0);
        list.add_partition_offset(&shared.config.journal_topic, ticket.partition.0, from)?;
    }
    reader.assign(&list)?;
    drop(list);
    let open = open.into_iter().map(|stretch| (stretch.ticket.partition, stretch)).collect();
    let outcome = read_to(reader, open, shared, hand_over);
    reader.unassign()?;
    outcome
}

fn read_to(
    reader: &BaseConsumer<Plain>,
    mut open: BTreeMap<PartitionId, Stretch>,
    shared: &Recovering,
    mut hand_over: impl FnMut(Vec<Stretch>),
) -> Result<(), Error> {
    let (mut told, mut handed_over) = (Instant::now(), Instant::now());
    // When a record came last, or the brokers were away.
    let mut moved = Instant::now();
    let mut done = Vec::new();
    loop {
        open.retain(|_, stretch| !stretch.ticket.cancelled.is_cancelled());
        // Many at once: each time costs the source an assignment.
        if open.is_empty() || handed_over.elapsed() >= POLL {
            handed_over = Instant::now();
            hand_over(std::mem::take(&mut done));
        }
        if open.is_empty() {
            return Ok(());
        }
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                // One that was handed over is written to, and read on here, while others may hang.
                let Entry::Occupied(mut entry) = open.entry(PartitionId(message.partition()))
                else {
                    continue;
                };
                moved = Instant::now();
                let end = entry.get().journal.end.0;
                if message.offset() < end {
                    entry.get_mut().take(&message, &shared.config.consumer_group_id);
                }
                if message.offset() + 1 >= end {
                    done.push(entry.remove());
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                done.extend(passed(reader, &mut open)?);
            }
            // Lost connections heal; the reporter tells of them.
            Some(Err(KafkaError::Global(_) | KafkaError::MessageConsumption(_))) => {}
            Some(Err(error)) => return Err(Error::from(error).during("read the journal")),
        }
        if shared.reporter.is_unreachable() {
            moved = Instant::now();
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            rebootstrap(reader.client());
            open.values().for_each(|stretch| tell(stretch, moved.elapsed(), shared));
        }
    }
}

/// Says whether another group wrote a record. One that does not say who wrote it may be ours, of an older release.
fn is_of_another(message: &BorrowedMessage<'_>, group: &str) -> bool {
    header(message, GROUP).is_some_and(|writer| *writer != *group.as_bytes())
}

/// Tells how far a partition is, and what to do when nothing has come for `still`.
fn tell(stretch: &Stretch, still: Duration, shared: &Recovering) {
    let Recovering { config, status, .. } = shared;
    let (partition, epoch) = (stretch.ticket.partition, stretch.ticket.epoch);
    if still < longest_transaction(config) {
        status.underway(partition, epoch, stretch.progress());
    } else {
        let hint = hanging_hint(still, config);
        status.hanging(partition, epoch, &format!("{}{hint}", stretch.progress()));
    }
}

/// Takes out the stretches whose end the position has passed.
fn passed(
    reader: &BaseConsumer<Plain>,
    open: &mut BTreeMap<PartitionId, Stretch>,
) -> Result<Vec<Stretch>, Error> {
    // A list that went through `position` keeps its partitions alive; it must be gone before the client is.
    let positions = lines(&reader.position()?);
    let ended =
        positions.into_iter().filter_map(|line| match open.entry(PartitionId(line.partition)) {
            Entry::Occupied(entry) if line.offset >= entry.get().journal.end.0 => {
                Some(entry.remove())
            }
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        });
    Ok(ended.collect())
}

/// Writes a number with a comma between its thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
