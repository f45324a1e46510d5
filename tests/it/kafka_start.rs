//! Starting without Kafka, or on topics that are not as they must be: one reason, and never a wait that can't be ended.

#![expect(clippy::unwrap_used, reason = "what is not there fails the test")]

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir::{
    kafka::{Config, Identity, Member, Reporter},
    sink::{Guarantee, KafkaPublisher, Setup, Topics, TopicsError, prepare},
    source::{self, Source},
    telemetry::{Health, Metrics},
};

use crate::support::kafka::{PATIENCE, World, create, until};

/// Looks at the topics until `reason` is told, then stops looking, and says how long the stopping took.
async fn waits_for(config: Config, reason: &str) -> Duration {
    let health = Health::default();
    let reporter = Reporter::new(&config.bootstrap_servers, health.component("kafka"));
    let stop = CancellationToken::new();
    let looking = TaskTracker::new().spawn({
        let (reporter, stop) = (reporter.clone(), stop.clone());
        async move {
            let identity = Identity::named("group", "a");
            prepare(&config, &identity, &reporter, &stop).await
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while !health.readyz().reasons().contains(reason) {
        let told = health.readyz().reasons();
        assert!(Instant::now() < deadline, "{reason:?} is never told, but {told:?}");
        assert!(!looking.is_finished(), "gave up: {:?}", looking.await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let began = Instant::now();
    stop.cancel();
    let ended = timeout(PATIENCE, looking).await.unwrap().unwrap();

    assert_eq!(ended, Err(TopicsError::Stopped));
    began.elapsed()
}

const AT_ONCE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_is_waited_for_and_the_wait_ends_at_once() {
    let config = Config { bootstrap_servers: "127.0.0.1:9".to_owned(), ..Config::default() };

    let took = waits_for(config, "no broker reachable at 127.0.0.1:9: Connection refused").await;

    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_waited_for_and_the_wait_ends_at_once() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let config = Config { bootstrap_servers: address.clone(), ..Config::default() };

    let took = waits_for(config, &format!("no broker reachable at {address}")).await;

    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named() {
    let config = Config { bootstrap_servers: "kafka.invalid:9092".to_owned(), ..Config::default() };

    waits_for(config, "host name not found: Failed to resolve 'kafka.invalid:9092'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_events_topic_is_waited_for_until_it_is_there() {
    let world = World::nowhere("missing");
    let events = world.events();
    waits_for(world.config.clone(), &format!("events topic {events} does not exist")).await;
    let health = Health::default();
    let reporter = Reporter::new(&world.config.bootstrap_servers, health.component("kafka"));
    let (identity, stop) = (Identity::named("group", "a"), CancellationToken::new());

    let looking = TaskTracker::new().spawn({
        let config = world.config.clone();
        async move { prepare(&config, &identity, &reporter, &stop).await }
    });
    create(events, 3, &[]).await;
    let topics = timeout(PATIENCE, looking).await.unwrap().unwrap().unwrap();

    assert_eq!(topics.partitions, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_weir_may_not_create_are_waited_for() {
    let mut world = World::new("nocreate", 1).await;
    world.config.create_topics = false;
    let results = world.config.workflow_results_topic.clone();

    waits_for(world.config, &format!("topic {results} does not exist")).await;
}

async fn look(world: &World) -> Result<Topics, TopicsError> {
    let health = Health::default();
    let reporter = Reporter::new(&world.config.bootstrap_servers, health.component("kafka"));
    let (identity, stop) = (Identity::named("group", "a"), CancellationToken::new());
    timeout(PATIENCE, prepare(&world.config, &identity, &reporter, &stop)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_made_with_the_events_topics_partitions() {
    let world = World::new("made", 3).await;

    let topics = look(&world).await.unwrap();
    let again = look(&world).await.unwrap();

    assert_eq!(topics, again);
    assert_eq!(topics.partitions, 3);
    // Kafka's default of 1,048,588 bytes, less the framing of a batch.
    assert_eq!(topics.limits.result_max, 1_048_588 - 128);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topics_own_limit_is_read() {
    let world = World::new("limits", 1).await;
    create(&world.config.dlq_topic, 1, &[("max.message.bytes", "5000")]).await;

    let limits = look(&world).await.unwrap().limits;

    assert_eq!((limits.result_max, limits.dead_letter_max), (1_048_460, 5_000 - 128));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_with_fewer_partitions_than_the_events_topic_is_an_error_with_its_remedy() {
    let world = World::new("small", 3).await;
    create(&world.config.journal_topic, 2, &[]).await;

    let error = look(&world).await.unwrap_err();

    assert!(matches!(error, TopicsError::JournalTooSmall { journal: 2, events: 3, .. }), "{error}");
    assert!(error.to_string().contains("--partitions 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_compaction_would_thin_out_is_an_error_with_its_remedy() {
    for policy in ["compact", "compact,delete"] {
        let world = World::new("compacted", 1).await;
        create(&world.config.journal_topic, 1, &[("cleanup.policy", policy)]).await;

        let error = look(&world).await.unwrap_err();

        assert!(matches!(error, TopicsError::JournalCompacted { .. }), "{error}");
        assert!(error.to_string().contains("cleanup.policy=delete"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_the_publisher_and_leaving_end_at_once_although_no_broker_answers() {
    let world = World::new("gone", 1).await;
    let topics = look(&world).await.unwrap();
    let config = Config { bootstrap_servers: "127.0.0.1:9".to_owned(), ..world.config };
    let (health, metrics) = (Health::default(), Metrics::default());
    let reporter = Reporter::new(&config.bootstrap_servers, health.component("kafka"));
    let (identity, stop) = (Identity::named("group", "a"), CancellationToken::new());
    let member = Member::create(&config, &identity, &reporter, &metrics).unwrap();
    let setup = Setup {
        config: config.clone(),
        identity: identity.clone(),
        reporter: reporter.clone(),
        membership: member.membership(),
        guarantee: Guarantee::ExactlyOnce,
        topics,
    };
    let starting = TaskTracker::new().spawn({
        let stop = stop.clone();
        async move { KafkaPublisher::start(setup, &stop).await.err() }
    });
    let setup = source::Setup {
        config,
        identity,
        reporter,
        journal_is_ahead: false,
        records_max: 1,
        bytes_max: 1,
        group: health.component("group"),
        metrics,
        tracker: TaskTracker::new(),
    };
    let (source, events) = Source::start(member, setup).unwrap();
    until("the reason is told", || {
        health.readyz().reasons().contains("kafka: the producer is not ready: no broker reachable")
    })
    .await;

    let began = Instant::now();
    stop.cancel();
    let ended = starting.await.unwrap();
    let publisher = began.elapsed();
    drop(events);
    source.stop().await;

    assert_eq!(ended, Some(weir::sink::Error::Closed));
    assert!(publisher < AT_ONCE, "{publisher:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
