//! What librdkafka calls back into: logs and errors of every client, and the rebalances of the group's member.

use std::collections::BTreeMap;
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc;
use tracing::error;

use crate::{
    failpoint::{self, Point},
    record::{Offset, PartitionId},
    telemetry::Metrics,
};

use super::{
    bootstrap::{Bootstrap, Bootstrapped},
    holding::Holding,
    native,
    report::Reporter,
};

/// The context of a client that is no member: it only talks.
#[derive(Debug)]
pub(crate) struct Plain {
    reporter: Reporter,
    bootstrap: Bootstrap,
}

/// The context of the group's member.
///
/// An assignment is acknowledged here, at once and with nothing in it: each partition is added when it is recovered.
/// While an acknowledgement is outstanding librdkafka fetches nothing for any partition and joins no further rebalance,
/// so one slow recovery would hold up all the others. A revocation is acknowledged by whoever owns the partitions, once
/// their last transaction has ended.
#[derive(Debug)]
pub(crate) struct MemberContext {
    reporter: Reporter,
    bootstrap: Bootstrap,
    metrics: Metrics,
    topic: String,
    rebalances: mpsc::Sender<Rebalance>,
    /// Set before the consumer closes: nobody is left who could acknowledge later.
    closing: AtomicBool,
    /// Of each partition that is read, the next offset to be committed: the group's lag is counted from it.
    positions: Mutex<BTreeMap<PartitionId, Offset>>,
    /// What the group has given us and we have not given up yet.
    holding: Mutex<Holding>,
}

/// What the group wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rebalance {
    /// These partitions are ours now.
    Assign(Vec<PartitionId>),
    /// These partitions are to be given up; `lost`: they are somebody else's already.
    Revoke { partitions: Vec<PartitionId>, lost: bool },
}

/// How many rebalances may wait to be looked at.
///
/// librdkafka begins none before the last one is acknowledged, so two would do: a revocation, and the assignment that
/// follows it at once. More than this many waiting means that nobody looks at them any more.
pub(super) const REBALANCES_MAX: usize = 64;

impl Plain {
    pub(crate) fn new(reporter: &Reporter) -> Self {
        Self { reporter: reporter.clone(), bootstrap: Bootstrap::new(reporter.servers()) }
    }
}

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.bootstrap.note(&error);
        self.reporter.error(&error, reason);
    }
}

impl Bootstrapped for Plain {
    fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }
}

impl ConsumerContext for Plain {}

impl MemberContext {
    pub(super) fn new(
        topic: &str,
        reporter: Reporter,
        metrics: Metrics,
        rebalances: mpsc::Sender<Rebalance>,
    ) -> Self {
        Self {
            bootstrap: Bootstrap::new(reporter.servers()),
            reporter,
            metrics,
            topic: topic.to_owned(),
            rebalances,
            closing: AtomicBool::new(false),
            positions: Mutex::default(),
            holding: Mutex::default(),
        }
    }

    /// From now on every rebalance is acknowledged within its callback.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Begins to tell the lag of a partition, from the position at which reading begins.
    pub(crate) fn begin(&self, partition: PartitionId, offset: Offset) {
        self.positions().insert(partition, offset);
    }

    /// Notes what was committed for a partition that is read.
    pub(crate) fn committed(&self, partition: PartitionId, offset: Offset) {
        if let Some(position) = self.positions().get_mut(&partition) {
            *position = offset;
        }
    }

    /// Forgets a partition that is given up.
    pub(crate) fn forget(&self, partition: PartitionId) {
        self.positions().remove(&partition);
        self.metrics.forget_partition(partition.0);
    }

    fn positions(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Offset>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether all that we hold came to us as this member.
    pub(super) fn holds_as(&self, member: &native::GroupMetadata) -> bool {
        self.holding().is_of(&member.member_id())
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a rebalance on, and says whether somebody took it.
    fn hand_on(&self, rebalance: Rebalance) -> bool {
        !self.closing.load(Ordering::SeqCst) && self.rebalances.try_send(rebalance).is_ok()
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.bootstrap.note(&error);
        self.reporter.error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            self.reporter.up();
        }
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for (partition, position) in self.positions().iter() {
            let Some(partition) = topic.partitions.get(&partition.0) else { continue };
            // What a read_committed reader can see; librdkafka's own lag counts from offsets that it committed itself,
            // and the transaction commits ours.
            let end =
                if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            if end >= 0 {
                self.metrics.lag(partition.partition, (end - position.0).max(0));
            }
        }
    }
}

impl Bootstrapped for MemberContext {
    fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: Vec<_> =
            native::lines(list).iter().map(|line| PartitionId(line.partition)).collect();
        let member = native::GroupMetadata::of(consumer.client());
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let id = member.map(|member| member.member_id()).unwrap_or_default();
            self.holding().take(&id, &partitions);
            let taken = self.hand_on(Rebalance::Assign(partitions));
            if !taken && !self.closing.load(Ordering::SeqCst) {
                error!("an assignment came that nobody takes: its partitions will not be read");
            }
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                error!(%error, "acknowledge an assignment");
            }
            return;
        }
        failpoint::reach(Point::RevokeCalled);
        // Adding a recovered partition takes librdkafka's mark of a lost assignment away; who we are tells it too.
        let is_ours = member.is_some_and(|member| member.is_valid() && self.holds_as(&member));
        let lost = consumer.assignment_lost() || !is_ours;
        if !self.hand_on(Rebalance::Revoke { partitions: partitions.clone(), lost }) {
            give_up(consumer, &self.topic, &partitions);
        }
    }
}

/// Acknowledges a revocation: takes those of the partitions out of the assignment that are in it.
///
/// A partition that was revoked before it was recovered never came into it, and librdkafka refuses a list that names
/// one that is not there.
pub(crate) fn give_up(
    consumer: &impl Consumer<MemberContext>,
    topic: &str,
    partitions: &[PartitionId],
) {
    // Before, as the assignment that follows comes on another thread.
    consumer.context().holding().give_up(partitions);
    let assigned = match consumer.assignment() {
        Ok(assignment) => native::lines(&assignment),
        Err(error) => {
            error!(%error, "ask for the assignment");
            Vec::new()
        }
    };
    let mut list = TopicPartitionList::new();
    for line in assigned.iter().filter(|line| partitions.contains(&PartitionId(line.partition))) {
        list.add_partition(topic, line.partition);
    }
    if let Err(error) = consumer.incremental_unassign(&list) {
        error!(%error, "acknowledge a revocation");
    }
}
