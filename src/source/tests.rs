use std::sync::Arc;
use std::time::Duration;

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::Consumer as _,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
};
use tokio::{
    sync::mpsc,
    time::{Instant, advance, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    journal::Map,
    kafka::{Config, Consuming, Identity, Member, Reporter, thread},
    record::{Epoch, Offset, PartitionId},
    telemetry::{Health, Metrics},
};

use super::{
    failure::Failure,
    recovery::Wait,
    status::Status,
    wanted::{Verdict, Wanted},
    window::Budget,
    *,
};

fn map(next: i64, unsettled: &[i64]) -> Map {
    Map {
        next: Offset(next),
        journal_base: Offset(0),
        nonce: 0,
        unsettled: unsettled.iter().copied().map(Offset).collect(),
    }
}

fn verdicts(wanted: &mut Wanted, offsets: impl IntoIterator<Item = i64>) -> Vec<Verdict> {
    offsets.into_iter().map(|offset| wanted.read(Offset(offset))).collect()
}

#[test]
fn everything_is_wanted_where_nothing_is_known() {
    let mut wanted = Wanted::new(Offset(3), None);

    let found = verdicts(&mut wanted, [3, 4, 9]);

    assert_eq!(found, [Verdict::Wanted; 3]);
    assert_eq!(wanted.next(), Offset(10));
    assert_eq!(wanted.jump(), None);
}

#[test]
fn below_the_maps_end_only_the_unsettled_is_wanted() {
    let mut wanted = Wanted::new(Offset(3), Some(&map(8, &[3, 6])));

    let found = verdicts(&mut wanted, 3..10);

    use Verdict::{Settled as S, Wanted as W};
    assert_eq!(found, [W, S, S, W, S, W, W]);
}

#[test]
fn an_unsettled_offset_that_is_gone_holds_up_nothing() {
    let mut wanted = Wanted::new(Offset(3), Some(&map(8, &[3, 5, 6])));

    let found = verdicts(&mut wanted, [4, 6, 7, 8]);

    use Verdict::{Settled as S, Wanted as W};
    assert_eq!(found, [S, W, S, W]);
}

#[test]
fn what_was_read_before_is_told_apart() {
    let mut wanted = Wanted::new(Offset(0), None);

    let found = verdicts(&mut wanted, [0, 1, 1, 0, 2]);

    use Verdict::{Repeated as R, Wanted as W};
    assert_eq!(found, [W, W, R, R, W]);
}

#[test]
fn a_long_settled_stretch_is_worth_a_seek_and_a_short_one_is_not() {
    let mut wanted = Wanted::new(Offset(0), Some(&map(20_000, &[0, 5_000, 10_000])));
    wanted.read(Offset(0));
    assert_eq!(wanted.jump(), None, "4,999 settled records are read");
    wanted.read(Offset(5_000));
    assert_eq!(wanted.jump(), None);
    wanted.read(Offset(10_000));

    assert_eq!(wanted.jump(), Some(Offset(20_000)));
    wanted.go_to(Offset(20_000));
    assert_eq!(wanted.jump(), None);
    assert_eq!(wanted.read(Offset(20_000)), Verdict::Wanted);
}

#[tokio::test(start_paused = true)]
async fn room_is_waited_for_and_given_back() {
    let window = Window::alone(2, 100);
    assert!(window.room().await);
    assert!(window.try_room());
    assert!(!window.try_room());

    let waiting = timeout(Duration::from_secs(1), window.room());
    assert!(waiting.await.is_err());
    window.release(1, 0);

    assert!(window.room().await);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_one_budget_for_all_windows() {
    let budget = Arc::new(Budget::new(100));
    let (one, two) = (Window::new(10, &budget), Window::new(10, &budget));
    assert!(one.room().await);
    one.take(150);

    assert!(!two.try_room());
    assert!(timeout(Duration::from_secs(1), two.room()).await.is_err());
    assert_eq!(two.free(), 10, "room that was not got is not kept");
    one.release(1, 60);

    assert!(timeout(Duration::from_secs(1), two.room()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_closed_window_has_no_room() {
    let window = Window::alone(1, 100);
    let waiting = window.clone();
    assert!(window.room().await);
    let waiting = tokio::task::LocalSet::new()
        .run_until(async move {
            let task = tokio::task::spawn_local(async move { waiting.room().await });
            window.close();
            task.await
        })
        .await;

    assert!(!waiting.unwrap());
}

#[tokio::test(start_paused = true)]
async fn patience_with_a_position_past_the_logs_end_begins_when_it_is_seen() {
    let mut wait = Wait::default();
    let mut seen = |is_beyond| wait.stays_beyond(is_beyond, Instant::now());

    assert!(!seen(false));
    advance(Duration::from_secs(60)).await;
    assert!(!seen(true));
    advance(Duration::from_secs(4)).await;
    assert!(!seen(true));
    assert!(!seen(false), "a leader that was just elected has found its end");
    advance(Duration::from_secs(4)).await;
    assert!(!seen(true));
    advance(Duration::from_secs(5)).await;

    assert!(seen(true));
}

#[tokio::test]
async fn a_recovery_that_hangs_is_counted_until_it_is_over() {
    let (health, metrics) = (Health::default(), Metrics::default());
    let status = Status::new("workers", health.component("group"), metrics.clone());
    let counted = |n: u8| metrics.encode().contains(&format!("weir_partitions_held_up {n}\n"));
    status.member(true);
    for (partition, epoch) in [(0, 1), (1, 2)] {
        status.begin(PartitionId(partition), Epoch(epoch));
        status.hanging(PartitionId(partition), Epoch(epoch), "for 30 s");
    }

    assert!(counted(2));
    status.hanging(PartitionId(0), Epoch(1), "for 40 s");
    assert!(counted(2));
    status.underway(PartitionId(0), Epoch(1), "1 of 2 journal records".to_owned());
    assert!(counted(1));
    status.forget(PartitionId(1));

    assert!(counted(0));
}

#[tokio::test]
async fn the_most_pressing_reason_is_told() {
    let health = Health::default();
    let status = Status::new("workers", health.component("group"), Metrics::default());
    let told = || health.readyz().reasons();
    let (zero, one) = (PartitionId(0), PartitionId(1));

    assert_eq!(told(), "group: joining the group workers");
    status.refused("permission denied: group");
    assert_eq!(told(), "group: permission denied: group");
    status.member(true);
    assert_eq!(told(), "");
    status.begin(zero, Epoch(1));
    status.begin(one, Epoch(2));
    status.underway(zero, Epoch(1), "12,400 of 50,000 journal records".to_owned());
    assert_eq!(told(), "group: recovering partition 0: 12,400 of 50,000 journal records");
    status.held(one, Epoch(2), "a transaction is open".to_owned());
    assert_eq!(told(), "group: partition 1 can't be recovered yet: a transaction is open");
    status.stopped(one, "foreign metadata");
    assert_eq!(told(), "group: partition 1 is stopped: foreign metadata");
    status.forget(one);
    status.forget(zero);
    assert_eq!(told(), "");
}

#[tokio::test]
async fn a_recovery_that_was_given_up_has_nothing_to_say() {
    let health = Health::default();
    let status = Status::new("workers", health.component("group"), Metrics::default());
    status.member(true);
    status.begin(PartitionId(0), Epoch(1));
    status.forget(PartitionId(0));

    status.held(PartitionId(0), Epoch(1), "too late".to_owned());
    assert!(health.readyz().ok);
    status.begin(PartitionId(0), Epoch(2));
    status.held(PartitionId(0), Epoch(1), "too late".to_owned());

    assert_eq!(
        health.readyz().reasons(),
        "group: recovering partition 0: reading the committed offset"
    );
}

#[tokio::test]
async fn what_ends_by_a_panic_fails_the_source_and_what_ends_well_does_not() {
    let reading = || async { Some(()) };
    let panicking = || async { panic!("a defect") };
    let never_began = || thread::run("none", || panic!("a defect"));
    for (name, is_well) in [("reading", true), ("panicking", false), ("never began", false)] {
        let (failure, told) = Failure::new();
        match name {
            "reading" => failure.watch("a task", reading()).await,
            "panicking" => failure.watch("a task", panicking()).await,
            _ => failure.watch("a task", never_began()).await,
        }

        assert_eq!(told.borrow().is_none(), is_well, "{name}");
    }
}

/// A source on a broker in memory, with one topic of one partition.
struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    consumer: Arc<Consuming>,
    source: Source,
    events: mpsc::Receiver<Event>,
}

impl Bench {
    fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let config = Config {
            bootstrap_servers: cluster.bootstrap_servers(),
            session_timeout: Duration::from_secs(6),
            ..Config::default()
        };
        for topic in [&config.workflow_events_topic, &config.journal_topic] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let (health, metrics) = (Health::default(), Metrics::default());
        let identity = Identity::named("group", "a");
        let reporter = Reporter::new(&config.bootstrap_servers, health.component("kafka"));
        let member = Member::create(&config, &identity, &reporter, &metrics).unwrap();
        let consumer = Arc::clone(&member.consumer);
        let setup = Setup {
            config,
            identity,
            reporter,
            journal_is_ahead: false,
            records_max: 10,
            bytes_max: 1_000,
            group: health.component("group"),
            metrics,
            tracker: TaskTracker::new(),
        };
        let (source, events) = Source::start(member, setup).unwrap();
        Self { cluster, consumer, source, events }
    }

    async fn next(&mut self) -> Event {
        timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_came_through_the_main_queue_makes_us_join_anew() {
    let mut bench = Bench::start();
    assert!(matches!(bench.next().await, Event::Assigned(_)));
    // Nobody has split the queue of this one, so what it holds goes where it must not.
    bench.cluster.create_topic("stray", 1, 1).unwrap();
    let servers = bench.cluster.bootstrap_servers();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    producer.send(BaseRecord::<(), str>::to("stray").partition(0).payload("a record")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut stray = TopicPartitionList::new();
    stray.add_partition_offset("stray", 0, rdkafka::Offset::Beginning).unwrap();
    bench.consumer.incremental_assign(&stray).unwrap();

    let Event::Revoked { partitions, lost, done } = bench.next().await else { panic!("revoked") };
    bench.consumer.incremental_unassign(&stray).unwrap();
    drop(stray);
    drop(done);
    let again = bench.next().await;

    assert_eq!((partitions, lost), (vec![PartitionId(0)], false));
    let Event::Assigned(again) = again else { panic!("{again:?}") };
    assert_eq!((again[0].partition, again[0].epoch), (PartitionId(0), Epoch(2)));
    drop(bench.consumer);
    drop(bench.events);
    bench.source.stop().await;
}
