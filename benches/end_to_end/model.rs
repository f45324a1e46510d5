//! Events that ask a model: does weir keep up with what the model's server can do?

use std::time::Duration;

use super::Scale;
use super::plain::is_success;
use super::support::broker::World;
use super::support::closed_loop::calls;
use super::support::events::{Task, events};
use super::support::figures::{Rate, judge, question, tell, told};
use super::support::process::Weir;
use super::support::stand_in::{SMALL, StandIn};

/// Lets weir work off a backlog of events that ask a model.
pub(super) fn work_off(total: u64, model: &StandIn, settings: &[(&str, &str)]) -> (Rate, Weir) {
    let world = World::new("model", 4);
    world.fill(&world.events, events(4, total, Task::Model));
    let results = world.count(&world.results, is_success);
    let before = model.answered();
    let settings = [&[("OLLAMA_BASE_URL", model.url.as_str())], settings].concat();
    let mut weir = Weir::start(&world, &settings);
    let samples = weir.follow(total, || results.count());
    assert_eq!((results.unlike(), model.answered() - before), (0, total), "one call for each");
    (Rate::of_the_middle(&samples, total), weir)
}

/// What does an event with one call cost weir beyond the call? Targets: 0.8 of what a bare loop of calls gets from a
/// server that answers 15,000 a second, and 60 us of CPU. One that answers as fast as can be shows what two cores do.
pub(super) fn at_once(scale: Scale) {
    let total = scale.events(50_000, 1_000);
    question(&format!("model: {total} events with one call each, no delay, journal in sync"));
    let next_to_bare = |server: &str, work: Duration| {
        let model = StandIn::working(Duration::ZERO, work);
        let bare = calls(&model.url, 32, total);
        tell(&format!("a bare loop of 32 connections, {server}"), &told(bare));
        let (rate, _weir) = work_off(total, &model, &[]);
        let share = rate.per_second / bare.per_second;
        (share, rate.cpu, format!("{}; {share:.2} of bare", told(rate)))
    };
    let (share, cpu, figure) = next_to_bare("a server of 15,000/s", SMALL);
    let held = share >= 0.8 && cpu <= Duration::from_micros(60);
    judge("weir, 32 slots", &figure, ">= 0.8, <= 60 us", held);
    let (_, _, figure) = next_to_bare("a server without work", Duration::ZERO);
    tell("weir, 32 slots", &figure);
}

/// Are all slots of a slow model in use all the time? Target: 0.99 of what a closed loop over as many connections gets.
pub(super) fn slots(scale: Scale) {
    let slots: usize = if scale.test { 32 } else { 256 };
    let total = scale.events(256 * 5 * 20, 300);
    question(&format!("slots: {total} events with one call of 200 ms each, {slots} slots"));
    let model = StandIn::start(Duration::from_millis(200));
    let bare = calls(&model.url, slots, total / 2);
    tell("a closed loop", &told(bare));
    let (rate, _weir) = work_off(total, &model, &[("OLLAMA_MAX_CONCURRENCY", &slots.to_string())]);
    let share = rate.per_second / bare.per_second;
    judge("weir", &format!("{}; {share:.3} of it", told(rate)), ">= 0.99", share >= 0.99);
}
