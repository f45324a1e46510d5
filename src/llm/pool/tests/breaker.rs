//! When an endpoint rests.

use super::super::breaker::{Breaker, Pass};
use super::*;
use crate::llm::error::Cut;

const LIMITS: Limits = Limits { faults: 3, rest: seconds_of(1), rest_max: seconds_of(4) };

const fn seconds_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failed(times: usize, blame: Blame, now: Instant) -> Breaker {
    let mut breaker = Breaker::default();
    (0..times).for_each(|_| breaker.ended(blame, false, LIMITS, now));
    breaker
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_rests_after_so_many_faults_in_a_row() {
    let now = Instant::now();
    for blame in [Blame::Endpoint, Blame::Connection] {
        assert_eq!(failed(2, blame, now).pass(now), Pass::Free);
        assert_eq!(failed(3, blame, now).state(), BreakerState::Open);
    }
    let mut breaker = failed(2, Blame::Endpoint, now);
    breaker.ended(Blame::Nobody, false, LIMITS, now);
    breaker.ended(Blame::Endpoint, false, LIMITS, now);
    assert_eq!(breaker.pass(now), Pass::Free);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_endpoints_fault_never_opens_it() {
    let now = Instant::now();
    for blame in [Blame::Nobody, Blame::Unknown, Blame::Load, Blame::Unfit] {
        assert_eq!(failed(100, blame, now).pass(now), Pass::Free, "{blame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_holds_its_calls_rests_at_once() {
    let now = Instant::now();
    for blame in [Blame::Stuck, Blame::Deaf] {
        assert_eq!(failed(1, blame, now).state(), BreakerState::Open, "{blame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_tries_and_each_that_fails_doubles_the_rest_up_to_the_limit() {
    let mut now = Instant::now();
    let mut breaker = failed(3, Blame::Endpoint, now);
    for rest in [1, 2, 4, 4] {
        assert_eq!(breaker.pass(now), Pass::Until(now + seconds(rest)));
        now += seconds(rest);
        assert_eq!(breaker.pass(now), Pass::Trial);
        assert!(breaker.begin_trial());
        assert_eq!(breaker.pass(now), Pass::Tried);
        breaker.ended(Blame::Endpoint, true, LIMITS, now);
    }
    now += seconds(4);
    breaker.begin_trial();
    breaker.ended(Blame::Nobody, true, LIMITS, now);
    assert_eq!(breaker.pass(now), Pass::Free);
    (0..3).for_each(|_| breaker.ended(Blame::Endpoint, false, LIMITS, now));
    assert_eq!(breaker.pass(now), Pass::Until(now + seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_decides_nothing_is_followed_by_another() {
    let now = Instant::now();
    for (blame, pass) in
        [(Blame::Unknown, Pass::Trial), (Blame::Load, Pass::Until(now + seconds(1)))]
    {
        let mut breaker = failed(1, Blame::Stuck, now);
        breaker.begin_trial();
        breaker.ended(blame, true, LIMITS, now);
        assert_eq!(breaker.pass(now), pass, "{blame:?}");
        assert_eq!(breaker.pass(now + seconds(1)), Pass::Trial, "{blame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_began_before_the_rest_does_not_end_the_trial() {
    let now = Instant::now();
    let mut breaker = failed(1, Blame::Stuck, now);
    breaker.begin_trial();
    for blame in [Blame::Unknown, Blame::Load, Blame::Unfit] {
        breaker.ended(blame, false, LIMITS, now);
        assert_eq!(breaker.pass(now), Pass::Tried, "{blame:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_fault_is_doubted_for_no_longer_than_a_rest() {
    let now = Instant::now();
    let mut breaker = failed(1, Blame::Endpoint, now);
    assert!(breaker.is_doubted(now));
    assert!(!breaker.is_doubted(now + seconds(1)));
    (0..2).for_each(|_| breaker.ended(Blame::Endpoint, false, LIMITS, now + seconds(2)));
    assert_eq!(breaker.state(), BreakerState::Open, "but it counts");
}

#[tokio::test(start_paused = true)]
async fn a_call_tries_what_the_probe_does_not_reach_for_long() {
    let began = Instant::now();
    let mut breaker = failed(3, Blame::Connection, began);
    for second in 0..60 {
        let now = began + seconds(second);
        breaker.unreached(now);
        assert_ne!(breaker.pass(now), Pass::Trial, "after {second} s");
    }
    assert_eq!(breaker.pass(began + seconds(60)), Pass::Trial);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_could_not_be_reached_is_tried_when_it_can() {
    let now = Instant::now();
    let mut unreached = failed(3, Blame::Connection, now);
    assert_eq!(unreached.pass(now), Pass::Until(now + seconds(5)));
    unreached.unreached(now + seconds(1));
    assert_eq!(unreached.pass(now), Pass::Until(now + seconds(6)));
    unreached.reached(now + seconds(2));
    assert_eq!(unreached.pass(now + seconds(2)), Pass::Trial);

    let mut faulty = failed(3, Blame::Endpoint, now);
    faulty.reached(now);
    assert_eq!(faulty.pass(now), Pass::Until(now + seconds(1)));
}

#[test]
fn blame_follows_from_the_fault() {
    let timeout = |phase| Fault::Timeout { phase, after: seconds(1) };
    let text = String::new;
    let check = |fault: Fault, blame| assert_eq!(Blame::of(&fault), blame, "{fault}");
    check(refused(), Blame::Connection);
    check(timeout(Phase::Connect), Blame::Connection);
    check(timeout(Phase::FirstByte), Blame::Endpoint);
    check(timeout(Phase::Idle), Blame::Stuck);
    check(timeout(Phase::Total), Blame::Unknown);
    check(timeout(Phase::Frozen), Blame::Stuck);
    check(timeout(Phase::Unresponsive), Blame::Deaf);
    check(broken(), Blame::Endpoint);
    check(Fault::Reset { reason: text() }, Blame::Endpoint);
    check(Fault::Truncated { reason: text(), cut: Cut::Broken }, Blame::Endpoint);
    check(Fault::Truncated { reason: text(), cut: Cut::Ended }, Blame::Unknown);
    check(Fault::Truncated { reason: text(), cut: Cut::EndedForGood }, Blame::Unknown);
    check(Fault::InvalidRequest { status: 400, message: text() }, Blame::Nobody);
    check(Fault::ContextOverflow { message: text() }, Blame::Nobody);
    check(Fault::ModelMissing { message: text() }, Blame::Unfit);
    check(Fault::RateLimited { after: None, message: text() }, Blame::Load);
    check(Fault::Overloaded { after: None, message: text() }, Blame::Load);
}
