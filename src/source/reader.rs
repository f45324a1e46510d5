//! Reads one partition under one assignment: room first, then records, as many at a time as are there already.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rdkafka::{
    Message, Offset as NativeOffset,
    consumer::{Consumer, MessageStream, stream_consumer::StreamPartitionQueue},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    failpoint::{self, Point},
    kafka::{self, Consuming, Kind, MemberContext, header, thread},
    record::{DEADLINE_HEADER, Epoch, Offset, PartitionId, Position, Record},
    telemetry::Metrics,
};

use super::{
    Event,
    recovery::Found,
    status::Status,
    wanted::{Verdict, Wanted},
    window::Window,
};

/// How many records go into one event.
const BATCH_MAX: usize = 256;

/// How many records that nobody wants are looked at before others get a turn.
const SKIPS_MAX: usize = 4_096;

/// A partition's queue may lose its wake-up for ever; so it is looked at this often, woken or not.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a seek or a question about the log's ends may take.
const CALL: Duration = Duration::from_secs(5);

/// Reads a partition until it is stopped.
pub(super) struct Reader {
    pub(super) topic: Arc<str>,
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    pub(super) consumer: Arc<Consuming>,
    pub(super) window: Window,
    pub(super) wanted: Wanted,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) status: Arc<Status>,
    pub(super) metrics: Metrics,
    /// Hears that the partition has to be read from somewhere else.
    pub(super) found: mpsc::Sender<Found>,
    pub(super) stop: CancellationToken,
}

/// Why reading ends.
enum Ended {
    Stopped,
    /// The log begins further ahead by now.
    Moved,
}

impl Reader {
    /// Passes records on until `stop` is cancelled or the window is closed. Then nothing of `queue` is left.
    pub(super) async fn run(mut self, queue: StreamPartitionQueue<MemberContext>) {
        let mut stream = queue.stream();
        // Room that was taken for a record that is not here yet.
        let mut room = false;
        let ended = loop {
            if let Err(ended) = self.turn(&mut stream, &mut room).await {
                break ended;
            }
        };
        drop(stream);
        drop(queue);
        if room {
            self.window.release(1, 0);
        }
        if let Ended::Moved = ended {
            let moved = Found::Moved { partition: self.partition, epoch: self.epoch };
            self.stop.run_until_cancelled(self.found.send(moved)).await.map(Result::ok);
        }
    }

    async fn turn(
        &mut self,
        stream: &mut MessageStream<'_, MemberContext>,
        room: &mut bool,
    ) -> Result<(), Ended> {
        if !*room {
            *room = self.stop.run_until_cancelled(self.window.room()).await.unwrap_or(false);
            if !*room {
                return Err(Ended::Stopped);
            }
        }
        let next = self.stop.run_until_cancelled(timeout(LOOK_AGAIN, stream.next())).await;
        let first = match next {
            None | Some(Ok(None)) => return Err(Ended::Stopped),
            Some(Err(_)) => return Ok(()),
            Some(Ok(Some(Err(error)))) => return self.trouble(&error).await,
            Some(Ok(Some(Ok(message)))) => message,
        };
        let mut batch = Vec::new();
        self.take(&first, &mut batch, room);
        drop(first);
        let trouble = self.take_more(stream, &mut batch, room);
        self.pass_on(batch).await?;
        if let Some(error) = trouble {
            self.trouble(&error).await?;
        }
        if let Some(ahead) = self.wanted.jump() {
            self.jump(ahead).await;
        }
        Ok(())
    }

    /// Takes what is there already, as long as there is room; returns the error that came instead, if one did.
    fn take_more(
        &mut self,
        stream: &mut MessageStream<'_, MemberContext>,
        batch: &mut Vec<Record>,
        room: &mut bool,
    ) -> Option<KafkaError> {
        for _ in 0..SKIPS_MAX {
            if batch.len() >= BATCH_MAX || !(*room || self.window.try_room()) {
                return None;
            }
            *room = true;
            match stream.next().now_or_never()?? {
                Ok(message) => self.take(&message, batch, room),
                Err(error) => return Some(error),
            }
        }
        None
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, batch: &mut Vec<Record>, room: &mut bool) {
        let offset = Offset(message.offset());
        match self.wanted.read(offset) {
            Verdict::Wanted => {
                let position = Position { partition: self.partition, offset, epoch: self.epoch };
                let record = record(message, position);
                self.window.take(record.size());
                *room = false;
                batch.push(record);
                failpoint::reach(Point::ReceiveRead);
            }
            Verdict::Settled => self.metrics.record_skipped(1),
            Verdict::Repeated => {
                let partition = self.partition;
                debug!(
                    partition = partition.0,
                    offset = offset.0,
                    "passed over a record that was read before"
                );
            }
        }
    }

    async fn pass_on(&self, batch: Vec<Record>) -> Result<(), Ended> {
        if batch.is_empty() {
            // Settled records only, and perhaps millions of them.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let bytes = batch.iter().map(Record::size).sum();
        if let Some(Ok(slot)) = self.stop.run_until_cancelled(self.events.reserve()).await {
            slot.send(Event::Records(batch));
            return Ok(());
        }
        // The bytes are everybody's; the room for records ends with this assignment.
        self.window.release(0, bytes);
        Err(Ended::Stopped)
    }

    /// Goes on further ahead: all in between is settled.
    async fn jump(&mut self, to: Offset) {
        let (partition, from) = (self.partition, self.wanted.next());
        match self.seek(to).await {
            Ok(()) => debug!(partition = partition.0, %from, %to, "seeked over settled records"),
            Err(error) => {
                warn!(partition = partition.0, %error, "seek over settled records; they are read instead");
                return;
            }
        }
        self.wanted.go_to(to);
    }

    async fn seek(&self, to: Offset) -> Result<(), kafka::Error> {
        let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
        let partition = self.partition.0;
        let seek = thread::run("kafka-seek", move || {
            consumer.seek(&topic, partition, NativeOffset::Offset(to.0), CALL)
        });
        let done = self.stop.run_until_cancelled(seek).await.flatten();
        Ok(done.unwrap_or(Err(KafkaError::Canceled))?)
    }

    /// Tells of an error that came instead of a record. After a position outside of the log librdkafka reads nothing more
    /// of the partition, and can't seek in it either: it has to be assigned anew.
    async fn trouble(&mut self, error: &KafkaError) -> Result<(), Ended> {
        let partition = self.partition;
        let error = kafka::Error::from(error.clone());
        if error.kind != Kind::OutOfRange {
            warn!(partition = partition.0, class = error.kind.class(), %error, "read from partition");
            return Ok(());
        }
        let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
        let asked = thread::run("kafka-watermarks", move || {
            consumer.fetch_watermarks(&topic, partition.0, CALL)
        });
        let ends = self.stop.run_until_cancelled(asked).await.flatten().ok_or(Ended::Stopped)?;
        let at = self.wanted.next();
        match ends {
            Ok((low, _)) if low > at.0 => {
                error!(
                    partition = partition.0, from = %at, to = low,
                    "records were deleted before they were read: the topic's retention is shorter than the backlog"
                );
                Err(Ended::Moved)
            }
            Ok((_, high)) if high < at.0 => {
                self.status.stopped(partition, &beyond(at, Offset(high)));
                Err(Ended::Stopped)
            }
            // Where we are is in the log after all, as the one says who leads it now.
            Ok(_) => Err(Ended::Moved),
            Err(error) => {
                warn!(partition = partition.0, %error, "ask where the log begins and ends");
                Err(Ended::Moved)
            }
        }
    }
}

/// Returns what to tell of a position past the log's end.
pub(super) fn beyond(at: Offset, end: Offset) -> String {
    format!(
        "position {at} is beyond the log's end {end}: the topic was recreated, or lost records; reset the group's \
         offsets (kafka-consumer-groups.sh --reset-offsets) to say where to go on"
    )
}

/// Returns a message as a record of ours, its bytes untouched.
pub(super) fn record(message: &BorrowedMessage<'_>, position: Position) -> Record {
    Record {
        position,
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        deadline: header(message, DEADLINE_HEADER),
    }
}
