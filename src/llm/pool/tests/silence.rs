//! What silence means.

use super::super::residency::Running;
use super::super::silence::{Lease, Pulse, Silent};
use super::*;

const ALONE: Bearing = Bearing {
    resident: Duration::from_secs(20),
    first_byte: Duration::from_secs(60),
    is_one_of_several: false,
};
const ONE_OF_SEVERAL: Bearing = Bearing { is_one_of_several: true, ..ALONE };

fn listed(expires_at: &str) -> Vec<Running> {
    vec![
        serde_json::from_value(serde_json::json!({ "name": "a:latest", "expires_at": expires_at }))
            .unwrap(),
    ]
}

fn answered(lease: Option<Lease<'_>>, expires_at: &str) {
    let now = Instant::now();
    lease.expect("the right to ask").answered(&listed(expires_at), now, now);
}

struct Bench {
    ear: Ear,
    pulse: Pulse,
    begun: Instant,
}

impl Bench {
    fn new() -> Self {
        let begun = Instant::now();
        Self { ear: Ear::default(), pulse: Pulse::new(begun), begun }
    }

    fn verdict(&self, bearing: Bearing) -> Option<Phase> {
        let silent = Silent { model: "a", begun: self.begun, pulse: &self.pulse };
        let fault = self.ear.verdict(silent, bearing, Instant::now())?;
        let Fault::Timeout { phase, .. } = fault else { panic!("{fault}") };
        Some(phase)
    }
}

#[tokio::test(start_paused = true)]
async fn a_loaded_model_that_gives_no_call_a_byte_is_frozen() {
    let bench = Bench::new();
    answered(bench.ear.lease(Instant::now()), "soon");
    sleep(seconds(19)).await;
    assert_eq!(bench.verdict(ALONE), None);
    sleep(seconds(1)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_listed_is_waited_for() {
    let bench = Bench::new();
    sleep(seconds(100)).await;
    assert_eq!(bench.verdict(ALONE), None);
}

#[tokio::test(start_paused = true)]
async fn a_model_whose_end_moves_is_being_loaded_or_answers_somebody() {
    let bench = Bench::new();
    for n in 0..20 {
        answered(bench.ear.lease(Instant::now()), &n.to_string());
        assert_eq!(bench.verdict(ALONE), None);
        sleep(seconds(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_of_any_call_is_a_sign_of_life_for_all() {
    let bench = Bench::new();
    answered(bench.ear.lease(Instant::now()), "soon");
    sleep(seconds(15)).await;
    bench.pulse.speak();
    sleep(seconds(15)).await;
    assert_eq!(bench.verdict(ALONE), None);
    sleep(seconds(5)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_may_take_longer() {
    let bench = Bench::new();
    bench.pulse.begin(2000);
    answered(bench.ear.lease(Instant::now()), "soon");
    sleep(seconds(29)).await;
    assert_eq!(bench.verdict(ALONE), None);
    sleep(seconds(1)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
}

#[tokio::test(start_paused = true)]
async fn what_one_call_finds_cuts_the_others_and_not_those_that_come_after() {
    let mut bench = Bench::new();
    answered(bench.ear.lease(Instant::now()), "soon");
    sleep(seconds(10)).await;
    let younger = Instant::now();
    sleep(seconds(10)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
    bench.begun = younger;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
    sleep(seconds(1)).await;
    bench.begun = Instant::now();
    assert_eq!(bench.verdict(ALONE), None);
}

#[tokio::test(start_paused = true)]
async fn what_one_call_has_found_is_over_when_the_model_speaks() {
    let bench = Bench::new();
    answered(bench.ear.lease(Instant::now()), "soon");
    sleep(seconds(20)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen));
    sleep(Duration::from_millis(200)).await;
    bench.pulse.speak();
    assert_eq!(bench.verdict(ALONE), None);
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_is_read_to_its_end_though_its_call_is_gone() {
    for (has_spoken, limit) in [(false, 30), (true, 20)] {
        let bench = Bench::new();
        bench.pulse.begin(2000);
        bench.pulse.end(has_spoken);
        bench.pulse.begin(10);
        answered(bench.ear.lease(Instant::now()), "soon");
        sleep(seconds(limit - 1)).await;
        assert_eq!(bench.verdict(ALONE), None, "{has_spoken}");
        sleep(seconds(1)).await;
        assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen), "{has_spoken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_at_all_is_left_sooner_where_there_are_others() {
    let bench = Bench::new();
    bench.ear.lease(Instant::now()).unwrap().unanswered(Instant::now());
    sleep(seconds(3)).await;
    assert_eq!(bench.verdict(ONE_OF_SEVERAL), Some(Phase::Unresponsive));
    assert_eq!(bench.verdict(ALONE), None);
    sleep(seconds(17)).await;
    assert_eq!(bench.verdict(ALONE), Some(Phase::Unresponsive));
}

#[tokio::test(start_paused = true)]
async fn one_call_asks_at_a_time_and_not_too_often() {
    let bench = Bench::new();
    let first = bench.ear.lease(Instant::now());
    assert!(bench.ear.lease(Instant::now()).is_none());
    answered(first, "soon");
    sleep(seconds(4)).await;
    assert!(bench.ear.lease(Instant::now()).is_none());
    sleep(seconds(1)).await;
    drop(bench.ear.lease(Instant::now()).expect("the right to ask"));
}

#[tokio::test(start_paused = true)]
async fn each_verdict_in_a_row_doubles_the_limit_until_the_model_speaks() {
    let mut bench = Bench::new();
    let frozen_after = async |bench: &mut Bench, limit: u64| {
        bench.begun = Instant::now();
        answered(bench.ear.lease(Instant::now()), "soon");
        sleep(seconds(limit - 1)).await;
        assert_eq!(bench.verdict(ALONE), None, "{limit}");
        sleep(seconds(1)).await;
        assert_eq!(bench.verdict(ALONE), Some(Phase::Frozen), "{limit}");
        sleep(seconds(5)).await;
    };
    for limit in [20, 40, 60, 60] {
        frozen_after(&mut bench, limit).await;
    }

    bench.pulse.speak();

    frozen_after(&mut bench, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_heard_is_not_deaf() {
    let bench = Bench::new();
    bench.ear.lease(Instant::now()).unwrap().unanswered(Instant::now());
    sleep(seconds(2)).await;
    bench.pulse.speak();
    sleep(seconds(2)).await;
    assert_eq!(bench.verdict(ONE_OF_SEVERAL), None);
    sleep(seconds(1)).await;
    assert_eq!(bench.verdict(ONE_OF_SEVERAL), Some(Phase::Unresponsive));
}

#[tokio::test(start_paused = true)]
async fn a_first_byte_that_does_not_come_while_others_are_answered_blames_nobody() {
    let late = Fault::Timeout { phase: Phase::FirstByte, after: seconds(120) };
    let pool = pool(1, 4, |_| ());
    for _ in 0..10 {
        let (waiting, answered) = (enter(&pool, "a").await, enter(&pool, "a").await);
        answered.voice().speak();
        waiting.end(Some(&late), None);
    }
    assert!(!pool.is_resting(0));

    for _ in 0..3 {
        sleep(seconds(1)).await;
        enter(&pool, "a").await.end(Some(&late), None);
    }
    assert!(pool.is_resting(0));
}
