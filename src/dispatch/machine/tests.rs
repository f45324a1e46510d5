use bytes::Bytes;

use super::*;
use crate::journal::Effect;
use crate::sink::{Limits, Topic};

#[path = "commits_tests.rs"]
mod commits;
#[path = "late_tests.rs"]
mod late;
#[path = "leaving_tests.rs"]
mod leaving;
#[path = "pace_tests.rs"]
mod pace;

const P0: PartitionId = PartitionId(0);
const SECOND: Duration = Duration::from_secs(1);

/// A machine under test, and what it asked for so far.
struct Bench {
    machine: Machine<i64>,
    now: Instant,
    started: Vec<i64>,
    /// The number of the last attempt, and whether its failure is final.
    attempt: (u32, bool),
    may_move: bool,
    cancelled: Vec<i64>,
    /// What was too late, and how often it had been attempted.
    shed: Vec<(i64, u32)>,
    released: usize,
    released_bytes: usize,
    recorded: Vec<u64>,
    published: Vec<Outgoing>,
    batch: Option<Batch>,
    revoked: Vec<PartitionId>,
    drained: bool,
}

fn bench(in_flight_max: usize, ordering: Ordering) -> Bench {
    bench_of_attempts(3, in_flight_max, ordering)
}

fn bench_of_attempts(attempts_max: u32, in_flight_max: usize, ordering: Ordering) -> Bench {
    bench_of(|settings| {
        (settings.in_flight_max, settings.ordering) = (in_flight_max, ordering);
        settings.retry.attempts_max = attempts_max;
    })
}

fn bench_of(set: impl FnOnce(&mut Settings)) -> Bench {
    let mut settings = Settings {
        group: "group".into(),
        topic: "events".into(),
        in_flight_max: 1,
        ordering: Ordering::Unordered,
        retry: RetryPolicy { attempts_max: 3, base: SECOND, max: 10 * SECOND },
        size: Size { records_max: 100, bytes_max: 1 << 20 },
        spacing: Duration::ZERO,
        atomic: true,
        unsettled_max: 2_000,
    };
    set(&mut settings);
    let mut machine = Machine::new(settings, 7);
    for id in [P0, PartitionId(1)] {
        machine.assign(id, Epoch(1), Tracker::start(Offset(0), Offset(0)), HashMap::new());
    }
    Bench {
        machine,
        now: Instant::now(),
        started: Vec::new(),
        attempt: (0, false),
        may_move: false,
        cancelled: Vec::new(),
        shed: Vec::new(),
        released: 0,
        released_bytes: 0,
        recorded: Vec::new(),
        published: Vec::new(),
        batch: None,
        revoked: Vec::new(),
        drained: false,
    }
}

fn at(partition: i32, offset: i64) -> Position {
    Position { partition: PartitionId(partition), offset: Offset(offset), epoch: Epoch(1) }
}

/// Limits of so many bytes each.
fn limits(max: usize) -> Limits {
    Limits { result_max: max, dead_letter_max: max, journal_max: max }
}

fn result(text: &str) -> Vec<Outgoing> {
    vec![outgoing(Topic::Results, text)]
}

fn outgoing(topic: Topic, text: &str) -> Outgoing {
    Outgoing {
        topic,
        partition: None,
        key: None,
        value: Bytes::copy_from_slice(text.as_bytes()),
        headers: Vec::new(),
    }
}

impl Bench {
    fn send(&mut self, partition: i32, offset: i64, key: &'static str) -> &mut Self {
        self.send_young(partition, offset, key, Duration::ZERO)
    }

    fn send_young(
        &mut self,
        partition: i32,
        offset: i64,
        key: &'static str,
        age_missing: Duration,
    ) -> &mut Self {
        let publish_at = self.now + age_missing;
        self.arrive(at(partition, offset), key, publish_at, None)
    }

    fn send_until(&mut self, offset: i64, key: &'static str, time: Duration) -> &mut Self {
        let (publish_at, deadline) = (self.now, Some(self.now + time));
        self.arrive(at(0, offset), key, publish_at, deadline)
    }

    fn arrive(
        &mut self,
        position: Position,
        key: &'static str,
        publish_at: Instant,
        deadline: Option<Instant>,
    ) -> &mut Self {
        if self.machine.receive(position, 10) {
            let key = Some(Bytes::from_static(key.as_bytes()));
            let (size, work) = (10, Work::Run(position.offset.0));
            let arrival = Arrival { position, key, size, publish_at, deadline, work };
            self.machine.admit(arrival, self.now);
        }
        self.turn()
    }

    fn done(&mut self, partition: i32, offset: i64) -> &mut Self {
        let records = result(&format!("{partition}/{offset}"));
        self.machine.ended(at(partition, offset), Ended::Done(records), || 0.5, self.now);
        self.turn()
    }

    fn failed(&mut self, partition: i32, offset: i64) -> &mut Self {
        self.machine.ended(
            at(partition, offset),
            Ended::Retry { pause: Pause::BackOff { after: None } },
            || 1.0 - f64::EPSILON,
            self.now,
        );
        self.turn()
    }

    fn effect(&mut self, offset: i64, ticket: u64) -> &mut Self {
        assert!(self.record(offset, Some(ticket)), "it is ours");
        self.turn()
    }

    fn record(&mut self, offset: i64, ticket: Option<u64>) -> bool {
        let effect = Effect {
            event_id: uuid::Uuid::nil(),
            offset: Offset(offset),
            node: "n".into(),
            visit: 0,
            attempt: 1,
            update: serde_json::value::to_raw_value(&1).unwrap(),
            usage: None,
            took: None,
        };
        let record = outgoing(Topic::Journal, "{}");
        self.machine.record(at(0, offset), effect, Some(record), ticket)
    }

    fn apply(&mut self) -> &mut Self {
        assert!(self.batch.take().is_some(), "a transaction is in flight");
        self.machine.applied(&[]);
        self.turn()
    }

    fn abort(&mut self) -> &mut Self {
        assert!(self.batch.take().is_some(), "a transaction is in flight");
        self.machine.aborted(self.now);
        self.turn()
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.turn()
    }

    fn turn(&mut self) -> &mut Self {
        while let Some(action) = self.machine.poll(self.now) {
            match action {
                Action::Start(start) => {
                    self.attempt = (start.attempt, start.last);
                    self.may_move = start.may_move;
                    self.started.push(start.job);
                }
                Action::Shed { position, job, attempts } => {
                    self.shed.push((job, attempts));
                    self.machine.shed(position, result(&format!("late {job}")), self.now);
                }
                Action::Commit(batch) => self.batch = Some(batch),
                Action::Recorded(ticket) => self.recorded.push(ticket),
                Action::Release { records, bytes, .. } => {
                    self.released += records;
                    self.released_bytes += bytes;
                }
                Action::Published(records) => self.published.extend(records),
                Action::Cancel(position) => {
                    self.cancelled.push(position.offset.0);
                    self.machine.cancelled(position);
                }
                Action::Revoked(partitions) => self.revoked.extend(partitions),
                Action::Drained => self.drained = true,
            }
        }
        self
    }

    fn published(&self) -> Vec<String> {
        self.published
            .iter()
            .map(|record| String::from_utf8(record.value.to_vec()).unwrap())
            .collect()
    }
}

#[test]
fn runs_never_exceed_the_permits_and_a_finished_run_gives_its_permit_back_before_its_commit() {
    let mut bench = bench(2, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(0, 2, "c");
    assert_eq!(bench.started, [0, 1]);

    bench.done(0, 0);

    assert_eq!(bench.started, [0, 1, 2]);
    assert!(bench.batch.is_some());
    assert_eq!(bench.released, 0);
}

#[test]
fn an_attempt_that_may_be_retried_waits_without_a_permit() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b");

    bench.failed(0, 0);
    assert_eq!(bench.started, [0, 1]);

    bench.after(SECOND).done(0, 1);
    assert_eq!(bench.started, [0, 1, 0]);
}

#[test]
fn an_attempt_that_moves_elsewhere_waits_for_nothing_and_counts_as_none() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a");
    let mut attempts = Vec::new();
    // Three moves, as many as there are attempts; what comes after them counts and backs off.
    for _ in 0..5 {
        attempts.push(bench.attempt);
        let moved = Ended::Retry { pause: Pause::None };
        bench.machine.ended(at(0, 0), moved, || 1.0 - f64::EPSILON, bench.now);
        bench.turn();
        if attempts.len() > 3 {
            bench.after(2 * SECOND);
        }
    }

    assert_eq!(attempts, [(1, false), (1, false), (1, false), (1, false), (2, false)]);
    assert_eq!(bench.attempt, (3, true));
    assert!(!bench.may_move);
}

#[test]
fn the_only_attempt_may_move_once() {
    let mut bench = bench_of_attempts(1, 1, Ordering::Unordered);
    bench.send(0, 0, "a");
    assert_eq!((bench.attempt, bench.may_move), ((1, true), true));

    bench.machine.ended(at(0, 0), Ended::Retry { pause: Pause::None }, || 0.5, bench.now);
    bench.turn();

    assert_eq!((bench.attempt, bench.may_move), ((1, true), false));
}

#[test]
fn a_result_too_young_is_held_without_a_permit_and_keeps_its_place_among_the_unsettled() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send_young(0, 0, "a", SECOND).send(0, 1, "b");
    bench.done(0, 0).done(0, 1);

    assert_eq!(bench.started, [0, 1]);
    assert_eq!(bench.batch.as_ref().unwrap().positions[0].offset, Offset(0));
    assert_eq!(bench.machine.deadline(), Some(bench.now + SECOND));

    bench.apply().after(SECOND).apply();
    assert_eq!(bench.published(), ["0/1", "0/0"]);
}

#[test]
fn events_of_one_key_run_one_after_another_and_their_results_keep_their_order() {
    let mut bench = bench(9, Ordering::Key);
    bench.send_young(0, 0, "k", SECOND).send(0, 1, "k").send(0, 2, "other");
    assert_eq!(bench.started, [0, 2]);

    bench.done(0, 0);
    assert_eq!(bench.started, [0, 2, 1], "the lane goes on although the result is held");
    bench.done(0, 1);
    assert!(bench.batch.is_none(), "the second result waits for the first");

    bench.after(SECOND).apply();
    assert_eq!(bench.published(), ["0/0", "0/1"]);
}

#[test]
fn a_retry_keeps_its_lane() {
    let mut bench = bench(9, Ordering::Partition);
    bench.send(0, 0, "a").send(0, 1, "b");

    bench.failed(0, 0);
    assert_eq!(bench.started, [0]);

    bench.after(SECOND).done(0, 0);
    assert_eq!(bench.started, [0, 0, 1]);
}

#[test]
fn what_belongs_to_an_earlier_assignment_is_dropped() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a");

    bench.machine.revoke(vec![P0], true, bench.now);
    bench.turn();
    bench.machine.assign(P0, Epoch(2), Tracker::start(Offset(0), Offset(0)), HashMap::new());
    bench.done(0, 0);

    assert!(bench.batch.is_none());
    assert_eq!(bench.machine.figures().running, 0);
}

#[test]
fn events_without_work_settle_without_a_permit() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a");
    let position = at(0, 1);
    assert!(bench.machine.receive(position, 10));

    let arrival = Arrival {
        position,
        key: None,
        size: 10,
        publish_at: bench.now + SECOND,
        deadline: None,
        work: Work::Publish(Vec::new()),
    };
    bench.machine.admit(arrival, bench.now);

    let batch = bench.turn().batch.clone().unwrap();
    assert!(batch.records.is_empty());
    assert_eq!(batch.positions[0].offset, Offset(0));
}

#[test]
fn an_events_last_effects_are_recorded_where_its_result_comes_later_or_apart_from_them() {
    let mut whole = bench(9, Ordering::Unordered);
    whole.send(0, 0, "a").send_young(0, 1, "b", SECOND);
    let mut apart = bench_of(|settings| settings.atomic = false);
    apart.send(0, 0, "a");
    let mut behind = bench_of(|settings| {
        (settings.in_flight_max, settings.size.records_max) = (9, 1);
    });
    behind.send(0, 0, "a").send(0, 1, "b").send(0, 2, "c").send(0, 3, "d");
    behind.done(0, 0).done(0, 1).done(0, 2).apply();

    assert!(!whole.machine.records_at_end(at(0, 0), whole.now));
    assert!(whole.machine.records_at_end(at(0, 1), whole.now));
    assert!(!whole.machine.records_at_end(at(0, 1), whole.now + SECOND));
    assert!(apart.machine.records_at_end(at(0, 0), apart.now));
    assert!(behind.machine.records_at_end(at(0, 3), behind.now));
    behind.apply();
    assert!(!behind.machine.records_at_end(at(0, 3), behind.now));
}

#[test]
fn an_effect_of_an_event_that_is_not_ours_is_refused() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a");
    bench.machine.assign(P0, Epoch(2), Tracker::start(Offset(0), Offset(0)), HashMap::new());

    assert!(!bench.record(0, Some(1)));
    assert!(bench.batch.is_none());
}
