use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr as Code},
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Map, Scope},
    kafka::{Config, Identity, Member, ProducerSizes, Reporter, position_list, thread},
    record::{Offset, PartitionId},
    retry::Disposition,
    telemetry::{Health, Metrics},
};

use super::{
    transaction::CALL,
    writer::{Fencings, Work, Writer},
    *,
};

#[path = "undone_tests.rs"]
mod undone;

const ABORTS: &[Code] = &[Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
const SIZES: ProducerSizes = ProducerSizes { smallest: 1_000_000, largest: 1_000_000 };
const LIMITS: Limits =
    Limits { result_max: 900_000, dead_letter_max: 900_000, journal_max: 900_000 };

/// A writer on a broker that fails as it is told.
///
/// librdkafka's mock cluster answers transactions without applying them: what was applied is what the test commits.
struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    config: Config,
    /// Holds the group's name; it never joins.
    member: Member,
    work: std::sync::mpsc::SyncSender<Work>,
    health: Health,
    reporter: Reporter,
}

impl Bench {
    async fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let config = Config { bootstrap_servers: cluster.bootstrap_servers(), ..Config::default() };
        for topic in [&config.workflow_events_topic, &config.workflow_results_topic] {
            cluster.create_topic(topic, 2, 1).unwrap();
        }
        let identity = Identity::named("group", "a");
        let health = Health::default();
        let reporter = Reporter::new(&config.bootstrap_servers, health.component("kafka"));
        let member = Member::create(&config, &identity, &reporter, &Metrics::default()).unwrap();
        let (work, queue) = sync_channel(1);
        let (ready, initialised) = oneshot::channel();
        let writer = Writer {
            config: config.clone(),
            identity,
            reporter: reporter.clone(),
            membership: member.membership(),
            guarantee: Guarantee::ExactlyOnce,
            topics: Topics { partitions: 2, limits: LIMITS, sizes: SIZES },
            limits: watch::Sender::new(LIMITS),
            runtime: Handle::current(),
            abandon: CancellationToken::new(),
            producer: None,
            fencings: Fencings::default(),
            last: None,
        };
        thread::detach("kafka-writer", move || writer.run(ready, &queue));
        initialised.await.unwrap().unwrap();
        Self { cluster, config, member, work, health, reporter }
    }

    /// Lets the next requests of a kind fail.
    fn fail(&self, request: RDKafkaApiKey, errors: &[Code]) {
        self.cluster.request_errors(request, errors);
    }

    /// Commits a position as the broker would have, had it applied a transaction.
    fn apply(&self, partition: i32, offset: i64, metadata: &str) {
        let outsider: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.config.bootstrap_servers)
            .set("group.id", &self.config.consumer_group_id)
            .create()
            .unwrap();
        let position = (PartitionId(partition), Offset(offset), metadata);
        let list = position_list(&self.config.workflow_events_topic, &[position]).unwrap();
        outsider.commit(&list, CommitMode::Sync).unwrap();
    }

    /// Lets the next new producer be told that it must not be, once: then it can be seen.
    fn refuse_a_new_producer(&self) {
        let refused = [Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED];
        self.fail(RDKafkaApiKey::InitProducerId, &refused);
    }

    /// Waits until a new producer was refused, and says whether one was.
    async fn new_producer(&self) -> bool {
        for _ in 0..400 {
            if self.health.readyz().reasons().contains("the producer is not ready") {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    async fn commit(&self, positions: &[(i32, i64, &str)]) -> Commit {
        let batch = Batch {
            records: vec![Outgoing {
                topic: Topic::Results,
                partition: None,
                key: None,
                value: Bytes::from_static(b"a result"),
                headers: Vec::new(),
            }],
            positions: positions
                .iter()
                .map(|(partition, offset, metadata)| CommitPosition {
                    partition: PartitionId(*partition),
                    offset: Offset(*offset),
                    metadata: (*metadata).to_owned(),
                })
                .collect(),
        };
        let (reply, outcome) = oneshot::channel();
        let group = self.member.membership().metadata_unchecked();
        self.work.send(Work { batch, group, reply }).unwrap();
        outcome.await.unwrap()
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_applied_by_any_one_of_its_positions() {
    let bench = Bench::new().await;
    // Since then the next owner of partition 1 has committed.
    bench.apply(0, 5, "ours");
    bench.apply(1, 9, "the next owner's");
    bench.fail(RDKafkaApiKey::EndTxn, &[Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);

    let outcome = bench.commit(&[(0, 5, "ours"), (1, 7, "ours too")]).await;

    assert!(
        matches!(outcome, Commit::Applied { ref journal } if journal.is_empty()),
        "{outcome:?}"
    );
    assert!(bench.health.readyz().ok);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_not_applied_and_the_next_one_goes_through() {
    let bench = Bench::new().await;
    // An offset that is the same proves nothing: the metadata is another commit's.
    bench.apply(0, 5, "of an earlier commit");
    bench.fail(RDKafkaApiKey::EndTxn, &[Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);

    let fenced = bench.commit(&[(0, 5, "ours"), (1, 7, "ours too")]).await;
    let again = bench.commit(&[(0, 5, "again"), (1, 7, "again")]).await;

    let Commit::Aborted { error } = fenced else { panic!("{fenced:?}") };
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert!(matches!(again, Commit::Applied { .. }), "{again:?}");
}

#[tokio::test]
async fn an_outcome_that_can_t_be_read_is_asked_for_until_it_can() {
    let bench = Bench::new().await;
    bench.apply(0, 5, "ours");
    bench.fail(RDKafkaApiKey::EndTxn, &[Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let unstable = [Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3];
    bench.fail(RDKafkaApiKey::OffsetFetch, &unstable);

    let outcome = bench.commit(&[(0, 5, "ours")]).await;

    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
}

/// Of so many requests, tried again every tenth of a second, one call of at most three seconds sees not all.
const BUSY: [Code; 45] = [Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 45];

/// Of so many no call sees the end.
const NEVER: [Code; 1000] = [Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 1000];

#[tokio::test]
async fn a_commit_that_is_not_answered_in_time_is_resumed() {
    let bench = Bench::new().await;
    bench.fail(RDKafkaApiKey::EndTxn, &BUSY);
    let since = Instant::now();

    let outcome = bench.commit(&[(0, 5, "ours")]).await;

    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
    assert!(since.elapsed() > CALL, "{:?}", since.elapsed());
}

#[tokio::test]
async fn an_abort_that_is_not_answered_in_time_is_asked_for_again() {
    let bench = Bench::new().await;
    bench.fail(RDKafkaApiKey::TxnOffsetCommit, ABORTS);
    bench.fail(RDKafkaApiKey::EndTxn, &BUSY);
    let since = Instant::now();

    let outcome = bench.commit(&[(0, 5, "ours")]).await;
    let took = since.elapsed();
    let next = bench.commit(&[(0, 5, "again")]).await;

    let Commit::Aborted { error } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error, Error::Replaced { .. }), "the same producer goes on: {error}");
    assert!(took > CALL, "{took:?}");
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
}

#[tokio::test]
async fn an_abort_that_is_never_answered_is_left_to_another_producer() {
    let bench = Bench::new().await;
    bench.fail(RDKafkaApiKey::TxnOffsetCommit, ABORTS);
    bench.fail(RDKafkaApiKey::EndTxn, &NEVER);
    let since = Instant::now();

    let outcome = bench.commit(&[(0, 5, "ours")]).await;
    let took = since.elapsed();
    bench.cluster.clear_request_errors(RDKafkaApiKey::EndTxn);
    let next = bench.commit(&[(0, 5, "again")]).await;

    assert!(matches!(outcome, Commit::Aborted { .. }), "{outcome:?}");
    assert!(took < bench.config.transaction_timeout, "{took:?}");
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
}

#[tokio::test]
async fn a_commit_that_is_never_answered_is_read_back_by_another_producer() {
    let bench = Bench::new().await;
    bench.fail(RDKafkaApiKey::EndTxn, &NEVER);
    bench.apply(0, 5, "ours");
    let since = Instant::now();

    let outcome = bench.commit(&[(0, 5, "ours")]).await;

    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
    assert!(since.elapsed() >= bench.config.transaction_timeout, "{:?}", since.elapsed());
}

#[tokio::test]
async fn offsets_that_are_not_taken_in_time_are_never_left_out_of_a_commit() {
    let bench = Bench::new().await;
    bench.fail(RDKafkaApiKey::AddOffsetsToTxn, &[BUSY; 10].concat());
    let since = Instant::now();

    let outcome = bench.commit(&[(0, 5, "ours")]).await;
    let took = since.elapsed();
    bench.cluster.clear_request_errors(RDKafkaApiKey::AddOffsetsToTxn);
    let next = bench.commit(&[(0, 5, "again")]).await;

    let Commit::Aborted { error } = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("send offsets"), "{error}");
    assert!(
        took > bench.config.transaction_timeout * 9 / 10,
        "tried until its time was over: {took:?}"
    );
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
}

#[tokio::test]
async fn offsets_of_a_former_member_abort_the_transaction() {
    for code in [
        Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
    ] {
        let bench = Bench::new().await;
        bench.fail(RDKafkaApiKey::TxnOffsetCommit, &[code]);

        let outcome = bench.commit(&[(0, 5, "ours")]).await;

        let Commit::Aborted { error } = outcome else { panic!("{code:?}: {outcome:?}") };
        assert!(matches!(error, Error::Replaced { .. }), "{code:?}: {error}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_told_until_it_is_granted() {
    let bench = Bench::new().await;
    let denied = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    bench.fail(RDKafkaApiKey::Produce, &denied);

    let outcome = bench.commit(&[(0, 5, "ours")]).await;
    let told = bench.health.readyz().reasons();
    // librdkafka bumps its epoch after a refused record, and the next transaction may be aborted for that.
    let mut granted = bench.commit(&[(0, 5, "again")]).await;
    if let Commit::Aborted { .. } = granted {
        granted = bench.commit(&[(0, 5, "once more")]).await;
    }

    let Commit::Aborted { error } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error, Error::Permission { .. }), "{error}");
    assert!(told.contains("permission: write to the results topic"), "{told}");
    assert!(matches!(granted, Commit::Applied { .. }), "{granted:?}");
    assert!(bench.health.readyz().ok);
}

#[tokio::test]
async fn a_producer_that_did_not_deliver_in_time_is_replaced() {
    let bench = Bench::new().await;
    // Tried again until the record's time is over.
    bench.fail(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
    let late = bench.commit(&[(0, 5, "ours")]).await;
    bench.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    bench.refuse_a_new_producer();

    let (next, seen) = tokio::join!(bench.commit(&[(0, 5, "again")]), bench.new_producer());

    let Commit::Aborted { error } = late else { panic!("{late:?}") };
    assert!(error.to_string().contains("not acknowledged in time"), "{error}");
    assert!(seen, "a new producer asks for its id");
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
    assert!(bench.health.readyz().ok);
}

#[tokio::test]
async fn a_producer_that_has_lost_its_brokers_is_replaced() {
    let bench = Bench::new().await;
    let first = bench.commit(&[(0, 5, "first")]).await;
    bench.cluster.broker_down(1).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !bench.reporter.is_unreachable() {
        assert!(Instant::now() < deadline, "it never said so");
        sleep(Duration::from_millis(10)).await;
    }
    bench.cluster.broker_up(1).unwrap();
    bench.apply(0, 5, "first");
    bench.refuse_a_new_producer();

    let (next, seen) = tokio::join!(bench.commit(&[(0, 6, "next")]), bench.new_producer());

    assert!(matches!(first, Commit::Applied { .. }), "{first:?}");
    assert!(seen, "a new producer asks for its id");
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
}

#[test]
fn a_journal_that_time_or_size_cuts_too_soon_is_told_with_the_remedy() {
    let told = |settings: &[(&str, &str)]| {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        topics::caveats("journal", &settings.collect())
    };

    assert!(told(&[]).is_empty());
    assert!(told(&[("retention.ms", "86400000"), ("retention.bytes", "-1")]).is_empty());
    assert!(told(&[("retention.ms", "-1")]).is_empty());
    assert!(told(&[("retention.ms", "86399999")])[0].starts_with("kept for 86399999 ms only"));
    let size = told(&[("retention.bytes", "0")]);
    assert!(size[0].starts_with("cut to 0 bytes") && size[0].contains("--entity-name journal"));
    assert_eq!(told(&[("retention.ms", "1"), ("retention.bytes", "1")]).len(), 2);
}

#[test]
fn three_fencings_within_a_minute_are_a_twins_doing() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut fencings = Fencings::default();

    assert!(!fencings.note(at(0)));
    assert!(!fencings.note(at(59)));
    // The first one is a minute old by now.
    assert!(!fencings.note(at(60)));
    assert!(fencings.note(at(61)));
}

#[test]
fn a_records_size_counts_what_the_topics_limit_counts() {
    let record = Outgoing {
        topic: Topic::Results,
        partition: None,
        key: Some(Bytes::from_static(b"key")),
        value: Bytes::from_static(b"value"),
        headers: vec![("name", Bytes::from_static(b"x"))],
    };

    assert_eq!(record.size(), 3 + 5 + 4 + 1 + 10);
}

#[test]
fn errors_that_an_operator_can_heal_are_tried_again() {
    let reason = || "why".to_owned();
    let again = [
        Error::Delivery { topic: Topic::Results, reason: reason() },
        Error::Replaced { reason: reason() },
        Error::Metadata { reason: reason() },
        Error::Permission { reason: reason() },
        Error::Broker { reason: reason() },
        Error::Fenced { reason: reason() },
    ];
    let stop = [
        Error::Configuration { reason: reason() },
        Error::Twin { transactional_id: "weir-g-a".to_owned() },
        Error::RolledBack { reason: reason() },
        Error::Closed,
    ];

    for error in again {
        assert_eq!(error.disposition(), Disposition::Retry { after: None }, "{error}");
    }
    for error in stop {
        assert_eq!(error.disposition(), Disposition::Stop, "{error}");
    }
}
