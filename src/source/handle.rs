//! The source as the service holds it: starts it, hears when it fails, closes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::{
    Message,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    kafka::{
        self, Config, Consuming, Identity, Kind, Member, MemberContext, Membership, Reporter,
        rebootstrap, thread,
    },
    record::{Epoch, PartitionId},
    telemetry::{Component, Metrics},
};

use super::{
    Event,
    assignments::{Assignments, Inbox},
    failure::Failure,
    recovery::Recovering,
    status::Status,
    window::Budget,
};

/// How many events may wait for the dispatch: it takes all that are there at each turn.
const EVENTS_MAX: usize = 64;

/// How many stray records may wait to be looked at. One is enough: what is done about it is done for all partitions.
const STRAYS_MAX: usize = 1;

/// How many recoveries may wait to be looked at.
const FOUND_MAX: usize = 64;

/// How often it is looked whether the source's tasks still live.
const TASKS_LOOKED_AT: Duration = Duration::from_secs(1);

/// How often it is looked whether the consumer still has a broker.
const CONSUMER_LOOKED_AT: Duration = Duration::from_secs(1);

/// How long closing the consumer may take. All that matters is committed by then.
const CLOSE: Duration = Duration::from_secs(10);

/// The same where the group has not let us in. Closing waits for its answer, which may wait for a member that died.
const CLOSE_OUTSIDE: Duration = Duration::from_secs(1);

/// What the source is made from.
pub struct Setup {
    /// The way to Kafka, and the names of the topics.
    pub config: Config,
    /// Who this process is.
    pub identity: Identity,
    /// Hears of trouble.
    pub reporter: Reporter,
    /// Whether the journal may hold effects of events that no committed map knows: it is written before the positions
    /// where there are no transactions.
    pub journal_is_ahead: bool,
    /// How many records of one partition may be read and not released.
    pub records_max: usize,
    /// How many bytes of records may be read and not released, of all partitions.
    pub bytes_max: usize,
    /// Says whether we are a member, and what is being recovered.
    pub group: Component,
    /// Figures.
    pub metrics: Metrics,
    /// Where the source's tasks live.
    pub tracker: TaskTracker,
}

/// Reads the events topic as a member of the group, until it is stopped.
pub struct Source {
    consumer: Arc<Consuming>,
    membership: Membership,
    assignments: (JoinHandle<()>, CancellationToken),
    pump: (JoinHandle<()>, CancellationToken),
    failure: watch::Receiver<Option<Error>>,
}

/// Why the source can't go on. The process ends, and its next life begins anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The consumer could not be set up.
    #[error("join the group")]
    Join(#[source] kafka::Error),
    /// Another live process joined the group under our name.
    #[error(
        "another live process is the group's static member {instance}: give each instance its own INSTANCE_ID"
    )]
    Twin {
        /// The name that two processes share.
        instance: String,
    },
    /// librdkafka can't go on with this consumer.
    #[error("the consumer failed: {reason}")]
    Fatal {
        /// What librdkafka said.
        reason: String,
    },
}

impl Source {
    /// Joins the group. Events come as soon as partitions are assigned and recovered.
    ///
    /// Do this after the producer's transactions are initialised: an earlier life's open transaction is ended by that,
    /// and recovery waits for it.
    ///
    /// # Errors
    /// [`Error::Join`] when librdkafka refuses the subscription.
    pub fn start(member: Member, setup: Setup) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let membership = member.membership();
        let Member { consumer, rebalances, .. } = member;
        let Setup { config, identity, reporter, journal_is_ahead, records_max, bytes_max, .. } =
            setup;
        let (group, metrics, tracker) = (setup.group, setup.metrics, setup.tracker);
        let topic: Arc<str> = config.workflow_events_topic.as_str().into();
        consumer.subscribe(&[&topic]).map_err(|error| Error::Join(error.into()))?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (found, findings) = mpsc::channel(FOUND_MAX);
        let (strays, strayed) = mpsc::channel(STRAYS_MAX);
        let (failure, told) = Failure::new();
        let shared = Recovering {
            status: Arc::new(Status::new(&config.consumer_group_id, group, metrics.clone())),
            config,
            identity,
            reporter,
            journal_is_ahead,
            membership: membership.clone(),
            metrics,
            deciding: Arc::new(Mutex::new(())),
        };
        let (stop_assignments, stop_pump) = (CancellationToken::new(), CancellationToken::new());
        let assignments = Assignments {
            consumer: Arc::clone(&consumer),
            topic,
            shared: Arc::new(shared),
            events,
            budget: Arc::new(Budget::new(bytes_max)),
            records_max,
            tracker: tracker.clone(),
            stop: stop_assignments.clone(),
            held: BTreeMap::new(),
            epoch: Epoch(0),
            rejoining: false,
            found,
            failure: failure.clone(),
        };
        let inbox = Inbox { rebalances, found: findings, strays: strayed };
        let pump = Pump {
            consumer: Arc::clone(&consumer),
            shared: Arc::clone(&assignments.shared),
            strays,
            failure,
            stop: stop_pump.clone(),
        };
        let assignments = tracker.spawn(assignments.run(inbox));
        let pump = tracker.spawn(pump.run());
        let source = Self {
            consumer,
            membership,
            assignments: (assignments, stop_assignments),
            pump: (pump, stop_pump),
            failure: told,
        };
        Ok((source, received))
    }

    /// Waits until the source can't go on, and says why; for ever while it can.
    pub async fn failed(&self) -> Error {
        let mut failure = self.failure.clone();
        loop {
            if let Ok(Ok(failed)) =
                timeout(TASKS_LOOKED_AT, failure.wait_for(Option::is_some)).await
                && let Some(error) = failed.clone()
            {
                return error;
            }
            // Neither ends by itself but by a panic, which the log has told of.
            if self.assignments.0.is_finished() || self.pump.0.is_finished() {
                return Error::Fatal { reason: "a task of the source has ended".into() };
            }
        }
    }

    /// Stops reading, gives up all partitions and leaves the group, within ten seconds.
    ///
    /// Stop the dispatch first: what it has not committed by now is another member's to do again.
    pub async fn stop(self) {
        let Self { consumer, membership, assignments, pump, .. } = self;
        let patience = if membership.is_usable() { CLOSE } else { CLOSE_OUTSIDE };
        // Readers and queues first: librdkafka waits for ever for those that outlive their consumer. A revocation that
        // nobody has acknowledged yet is acknowledged by this, and those that closing brings within their callbacks.
        consumer.context().close();
        end("assignments", assignments).await;
        end("pump", pump).await;
        let until = Instant::now() + patience;
        // A commit or a recovery may hold the consumer for a moment yet.
        while Arc::strong_count(&consumer) > 1 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let left = until.saturating_duration_since(Instant::now());
        let closed = thread::run("kafka-leave", move || drop(consumer));
        match timeout(left, closed).await {
            Ok(_) => info!("left the group"),
            Err(_) => warn!(
                ?patience,
                "the consumer did not close in time; the group drops it by its session time-out"
            ),
        }
    }
}

async fn end(name: &str, (task, stop): (JoinHandle<()>, CancellationToken)) {
    stop.cancel();
    if let Err(error) = task.await {
        error!(task = name, %error, "task ended badly");
    }
}

/// Polls the main queue, always: rebalances, errors and statistics come through it, and by it the group sees us live.
struct Pump {
    consumer: Arc<StreamConsumer<MemberContext>>,
    shared: Arc<Recovering>,
    strays: mpsc::Sender<PartitionId>,
    failure: Failure,
    stop: CancellationToken,
}

impl Pump {
    async fn run(self) {
        loop {
            let next = timeout(CONSUMER_LOOKED_AT, self.consumer.recv());
            let Some(received) = self.stop.run_until_cancelled(next).await else { break };
            rebootstrap(self.consumer.client());
            let Ok(received) = received else { continue };
            match received {
                Ok(message) => {
                    error!(
                        partition = message.partition(),
                        offset = message.offset(),
                        "a record came through the main queue: please report this"
                    );
                    // Full, it holds one that does as well.
                    self.strays.try_send(PartitionId(message.partition())).ok();
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => self.failed(code),
                Err(error) => self.trouble(&error.into()),
            }
        }
    }

    fn trouble(&self, error: &kafka::Error) {
        let Config { consumer_group_id: group, workflow_events_topic: topic, .. } =
            &self.shared.config;
        // The context has told of it already, in words; what keeps us out of the group is the group's own reason too.
        debug!(%error, "poll the group");
        let reason = &error.reason;
        if error.kind == Kind::Permission {
            self.shared.status.refused(format!(
                "permission denied: {reason}; weir reads topic {topic} as a member of group {group}"
            ));
        } else if error.kind == Kind::UnknownTopic {
            self.shared.status.refused(format!("topic {topic}: {reason}"));
        }
    }

    fn failed(&self, code: RDKafkaErrorCode) {
        let fatal = self.consumer.client().fatal_error();
        let (code, reason) = fatal.unwrap_or_else(|| (code, code.to_string()));
        let twin = matches!(
            code,
            RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnreleasedInstanceId
        );
        let error = match twin {
            true => Error::Twin { instance: self.shared.identity.instance().to_owned() },
            false => Error::Fatal { reason },
        };
        self.failure.tell(error);
    }
}
