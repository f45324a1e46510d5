//! Owns the assignment: starts recoveries and readers, stops them, and acknowledges what the group takes away.
//!
//! One task, so that what happens to a partition happens in one order. Everything that can be slow (a recovery, the
//! dispatch giving partitions up) is awaited without holding up the partitions that are read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::{
    Offset as NativeOffset, TopicPartitionList,
    consumer::{Consumer, stream_consumer::StreamPartitionQueue},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    failpoint::{self, Mechanism, Point},
    kafka::{Consuming, Error, GroupProtocol, Kind, MemberContext, Rebalance, give_up, thread},
    record::{Epoch, Offset, PartitionId},
};

use super::{
    Event, Recovered, Window,
    failure::Failure,
    reader::Reader,
    recovery::{Found, Job, Open, Recovering, Restored, Ticket},
    wanted::Wanted,
    window::Budget,
};

/// How often membership is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The task's state.
pub(super) struct Assignments {
    pub(super) consumer: Arc<Consuming>,
    pub(super) topic: Arc<str>,
    pub(super) shared: Arc<Recovering>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) budget: Arc<Budget>,
    pub(super) records_max: usize,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) held: BTreeMap<PartitionId, Held>,
    pub(super) epoch: Epoch,
    /// We have asked to join anew, and have no assignment from that yet.
    pub(super) rejoining: bool,
    pub(super) found: mpsc::Sender<Found>,
    pub(super) failure: Failure,
}

/// What the task hears of.
pub(super) struct Inbox {
    pub(super) rebalances: mpsc::Receiver<Rebalance>,
    pub(super) found: mpsc::Receiver<Found>,
    /// Partitions of which a record came through the main queue, which must not happen.
    pub(super) strays: mpsc::Receiver<PartitionId>,
}

/// A partition that is to be read.
struct Begin {
    partition: PartitionId,
    epoch: Epoch,
    wanted: Wanted,
    window: Window,
}

/// How far a partition is.
pub(super) enum Held {
    Recovering(Ticket),
    Reading {
        epoch: Epoch,
        window: Window,
        stop: CancellationToken,
        reader: JoinHandle<()>,
    },
    /// Not read. `told`: the dispatch knows of it all the same.
    Stopped {
        told: bool,
    },
}

impl Assignments {
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Biased: what the group takes away comes before what was found for it.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(rebalance) = inbox.rebalances.recv() => self.rebalance(rebalance).await,
                Some(found) = inbox.found.recv() => self.found(found).await,
                Some(partition) = inbox.strays.recv() => self.stray(partition).await,
                _ = look.tick() => self.look(),
            }
        }
        let all: Vec<_> = self.held.keys().copied().collect();
        self.let_go(&all).await;
        // One that came meanwhile would wait for its acknowledgement for ever, and closing the consumer for it.
        inbox.rebalances.close();
        while let Ok(rebalance) = inbox.rebalances.try_recv() {
            if let Rebalance::Revoke { partitions, .. } = rebalance {
                self.acknowledge(partitions).await;
            }
        }
    }

    /// Looks at the membership. Where the members assign, each of them hears of every generation, and is in when it has
    /// heard; where the broker assigns, one without partitions hears nothing.
    fn look(&self) {
        let usable = self.shared.membership.is_usable();
        if !usable || self.shared.config.group_protocol == GroupProtocol::Consumer {
            self.shared.status.member(usable);
        }
    }

    async fn rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.assign(&partitions);
                if self.shared.membership.is_stale() {
                    warn!("the group had dropped us unnoticed: all partitions are given up");
                    self.rejoin().await;
                }
            }
            Rebalance::Revoke { partitions, lost } => self.revoke(partitions, lost).await,
        }
    }

    fn assign(&mut self, partitions: &[PartitionId]) {
        self.shared.metrics.rebalance("assign");
        self.rejoining = false;
        self.shared.status.member(true);
        let tickets: Vec<_> = partitions.iter().map(|partition| self.ticket(*partition)).collect();
        if tickets.is_empty() {
            return;
        }
        info!(?partitions, "assigned");
        self.recover(Open::new(tickets));
    }

    fn recover(&self, open: Open) {
        let job = Job { shared: Arc::clone(&self.shared), open, found: self.found.clone() };
        let recovery = thread::run("kafka-recovery", move || job.run());
        let stop = self.stop.clone();
        let ended = async move { stop.run_until_cancelled(recovery).await.unwrap_or(Some(())) };
        self.tracker.spawn(self.failure.clone().watch("a recovery", ended));
    }

    fn ticket(&mut self, partition: PartitionId) -> Ticket {
        self.epoch = Epoch(self.epoch.0 + 1);
        let ticket = Ticket { partition, epoch: self.epoch, cancelled: self.stop.child_token() };
        self.shared.status.begin(partition, self.epoch);
        self.held.insert(partition, Held::Recovering(ticket.clone()));
        ticket
    }

    async fn revoke(&mut self, partitions: Vec<PartitionId>, lost: bool) {
        self.shared.metrics.rebalance(if lost { "lost" } else { "revoke" });
        info!(?partitions, lost, "revoked");
        failpoint::reach(Point::RevokeHanded);
        let told = self.let_go(&partitions).await;
        if !told.is_empty() {
            let (done, given_up) = oneshot::channel();
            let event = Event::Revoked { partitions: told, lost, done };
            let sent = self.stop.run_until_cancelled(self.events.send(event)).await.is_some();
            if sent && !failpoint::is_off(Mechanism::LateAcknowledgement) {
                // Sent or dropped, it means the same: nobody works on these partitions any more.
                self.stop.run_until_cancelled(given_up).await.map(Result::ok);
            }
        }
        self.acknowledge(partitions).await;
        self.tell_assigned();
    }

    async fn acknowledge(&self, partitions: Vec<PartitionId>) {
        let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
        let given = thread::run("kafka-unassign", move || {
            give_up(&*consumer, &topic, &partitions);
        });
        if given.await.is_none() {
            error!("acknowledge a revocation");
        }
        failpoint::reach(Point::RevokeAcknowledged);
    }

    /// Ends the recoveries and the readers of partitions; returns those that the dispatch knows of.
    async fn let_go(&mut self, partitions: &[PartitionId]) -> Vec<PartitionId> {
        let mut readers = Vec::new();
        let mut told = Vec::new();
        for partition in partitions {
            match self.held.remove(partition) {
                Some(Held::Recovering(ticket)) => ticket.cancelled.cancel(),
                Some(Held::Reading { window, stop, reader, .. }) => {
                    stop.cancel();
                    window.close();
                    readers.push((*partition, reader));
                }
                Some(Held::Stopped { told: true }) => told.push(*partition),
                Some(Held::Stopped { told: false }) | None => {}
            }
            self.shared.status.forget(*partition);
            self.consumer.context().forget(*partition);
        }
        for (partition, reader) in readers {
            // A reader that outlives its assignment would take the wake-up from the next one's queue.
            if let Err(error) = reader.await {
                error!(partition = partition.0, %error, "reader ended badly");
            }
            told.push(partition);
        }
        // A first position that is being committed must be there before the next owner looks for it.
        if !self.stop.is_cancelled() {
            drop(self.stop.run_until_cancelled(self.shared.deciding.lock()).await);
        }
        told
    }

    async fn found(&mut self, found: Found) {
        match found {
            Found::Stopped(ticket, reason) => {
                if self.is_current(&ticket) {
                    self.shared.status.stopped(ticket.partition, &reason);
                    self.held.insert(ticket.partition, Held::Stopped { told: false });
                }
            }
            Found::Untold(open) => self.recover(open),
            Found::Moved { partition, epoch } => self.moved(partition, epoch).await,
            Found::Ready(restored) => {
                let restored: Vec<_> =
                    restored.into_iter().filter(|one| self.is_current(&one.ticket)).collect();
                if !restored.is_empty() {
                    self.read(restored).await;
                }
            }
        }
    }

    fn is_current(&self, ticket: &Ticket) -> bool {
        matches!(
            self.held.get(&ticket.partition),
            Some(Held::Recovering(held)) if held.epoch == ticket.epoch
        )
    }

    /// Tells the dispatch of recovered partitions, adds them to the assignment, and begins to read.
    async fn read(&mut self, restored: Vec<Restored>) {
        let mut begins = Vec::new();
        let mut told = Vec::new();
        for Restored { ticket, start, map, effects, journal_end } in restored {
            let Ticket { partition, epoch, .. } = ticket;
            let window = Window::new(self.records_max, &self.budget);
            let wanted = Wanted::new(start, map.as_ref());
            begins.push(Begin { partition, epoch, wanted, window: window.clone() });
            told.push(Recovered { partition, epoch, start, map, effects, journal_end, window });
        }
        if self.stop.run_until_cancelled(self.events.send(Event::Assigned(told))).await.is_some() {
            self.begin(begins).await;
        }
    }

    /// Adds partitions to the assignment, and begins to read them.
    async fn begin(&mut self, begins: Vec<Begin>) {
        let at: Vec<_> =
            begins.iter().map(|begin| (begin.partition, begin.wanted.next())).collect();
        let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
        let added = thread::run("kafka-assign", move || add(&consumer, &topic, &at)).await;
        let queues = match added.unwrap_or_else(|| Err(Error::new(Kind::Other, "no answer"))) {
            Ok(queues) => queues,
            Err(error) => {
                for Begin { partition, .. } in begins {
                    let reason = format!("add it to the assignment: {error}");
                    self.shared.status.stopped(partition, &reason);
                    self.held.insert(partition, Held::Stopped { told: true });
                }
                return;
            }
        };
        for (Begin { partition, epoch, wanted, window }, queue) in begins.into_iter().zip(queues) {
            self.consumer.context().begin(partition, wanted.next());
            self.shared.status.forget(partition);
            let stop = CancellationToken::new();
            let reader = Reader {
                topic: Arc::clone(&self.topic),
                partition,
                epoch,
                consumer: Arc::clone(&self.consumer),
                window: window.clone(),
                wanted,
                events: self.events.clone(),
                status: Arc::clone(&self.shared.status),
                metrics: self.shared.metrics.clone(),
                found: self.found.clone(),
                stop: stop.clone(),
            };
            let ended = reader.run(queue).map(Some);
            let reader = self.tracker.spawn(self.failure.clone().watch("a reader", ended));
            self.held.insert(partition, Held::Reading { epoch, window, stop, reader });
        }
        self.tell_assigned();
    }

    /// Joins the group anew, because a partition has to be read from elsewhere.
    ///
    /// librdkafka reads nothing more of a partition whose position was outside of its log, and takes no seek in it; it has
    /// to be assigned anew. Taking it out of the assignment by ourselves would acknowledge a revocation that comes at the
    /// same moment, before its partitions are given up. So the group does it: all partitions are given up in good order,
    /// and come back recovered.
    async fn moved(&mut self, partition: PartitionId, epoch: Epoch) {
        let current = matches!(
            self.held.get(&partition),
            Some(Held::Reading { epoch: held, .. }) if *held == epoch
        );
        if !current || self.rejoining {
            return;
        }
        info!(
            partition = partition.0,
            "joining the group anew to read the partition from where its log begins"
        );
        self.rejoin().await;
    }

    /// Gives all partitions up and joins the group anew.
    async fn rejoin(&mut self) {
        self.rejoining = true;
        let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
        let joining = thread::run("kafka-rejoin", move || {
            consumer.unsubscribe();
            consumer.subscribe(&[&topic])
        });
        if let Some(Err(error)) = joining.await {
            error!(%error, "join the group anew");
        }
    }

    /// Joins the group anew because of a record that came through the main queue. It can't be passed on: those before it
    /// may still be on their way through the partition's own queue, and would be passed over as read before.
    async fn stray(&mut self, partition: PartitionId) {
        if self.held.contains_key(&partition) && !self.rejoining {
            self.rejoin().await;
        }
    }

    fn tell_assigned(&self) {
        let reading =
            self.held.values().filter(|held| matches!(held, Held::Reading { .. })).count();
        self.shared.metrics.assigned_partitions(i64::try_from(reading).unwrap_or(i64::MAX));
    }
}

/// Adds partitions to the assignment, each with a queue of its own.
fn add(
    consumer: &Arc<Consuming>,
    topic: &str,
    begins: &[(PartitionId, Offset)],
) -> Result<Vec<StreamPartitionQueue<MemberContext>>, Error> {
    let mut queues = Vec::new();
    let mut list = TopicPartitionList::new();
    for (partition, start) in begins {
        // librdkafka forwards a partition's queue to the main one unless it is split before the partition is assigned.
        let queue = consumer.split_partition_queue(topic, partition.0);
        queues.push(queue.ok_or_else(|| {
            Error::new(Kind::UnknownTopic, format!("partition {partition} has no queue"))
        })?);
        list.add_partition_offset(topic, partition.0, NativeOffset::Offset(start.0))?;
    }
    consumer.incremental_assign(&list)?;
    Ok(queues)
}
