//! Events that need no model: how fast, at what cost, on how many partitions.

use std::time::Duration;

use super::Scale;
use super::support::broker::World;
use super::support::events::{Task, event, events};
use super::support::figures::{Rate, Sample, judge, mib, question, tell, told};
use super::support::process::{Weir, pause};
use super::support::raw;
use super::support::stand_in::StandIn;

/// A backlog that weir has worked off.
pub(super) struct Run {
    pub(super) rate: Rate,
    pub(super) samples: Vec<Sample>,
    pub(super) peak: u64,
}

/// Lets weir work off a backlog that is there, and makes sure that every event has its result.
pub(super) fn work_off(world: &World, total: u64) -> Run {
    let outsider = world.outsider();
    let mut weir = Weir::start(world, &[]);
    let samples = weir.follow(total, || world.committed(&outsider));
    let peak = weir.peak();
    drop(weir);
    all_succeeded(world, total);
    Run { rate: Rate::of_the_middle(&samples, total), samples, peak }
}

/// Waits until a reader has seen one result for each event, and asserts that each is a success.
pub(super) fn all_succeeded(world: &World, total: u64) {
    let counter = world.count(&world.results, is_success);
    let (mut seen, mut still) = (0, 0);
    // One too many would come with the others, or right after them.
    while still < 20 {
        pause(Duration::from_millis(25));
        let now = counter.count();
        still = if now == seen && now >= total { still + 1 } else { 0 };
        seen = now;
    }
    assert_eq!((seen, counter.unlike()), (total, 0), "results, and those that are no success");
}

/// Says whether a result tells of a success.
pub(super) fn is_success(value: &[u8]) -> bool {
    let word = br#""status":"success""#;
    value.windows(word.len()).any(|bytes| bytes == word)
}

/// How fast is a backlog worked off, as a share of what bare transactions of 1,000 records get, and what does an event
/// cost? Targets: half of it, and 12 us of CPU.
pub(super) fn backlog_next_to_raw(scale: Scale) {
    let total = scale.events(500_000, 4_000);
    question(&format!("plain: a backlog of {total} events on 4 partitions"));
    let world = World::new("plain", 4);
    world.fill(&world.events, events(4, total, Task::Plain));
    tell("bare, passed through", &told(raw::pass_through(&world, total)));
    let raw = raw::transactional(&world, total);
    tell("bare transactions of 1,000", &told(raw));
    let run = work_off(&world, total);
    let share = run.rate.per_second / raw.per_second;
    judge(
        "weir",
        &format!("{}; {share:.2} of bare; at most {}", told(run.rate), mib(run.peak)),
        ">= 0.5, <= 12 us",
        share >= 0.5 && run.rate.cpu <= Duration::from_micros(12),
    );
}

/// What do 100 partitions cost instead of 4? Target: at least 0.8 of the rate.
pub(super) fn hundred_partitions(scale: Scale) {
    let total = scale.events(200_000, 2_000);
    question(&format!("hundred: a backlog of {total} events on 100 partitions, and on 4"));
    let rate_on = |partitions| {
        let world = World::new("hundred", partitions);
        world.fill(&world.events, events(partitions, total, Task::Plain));
        let run = work_off(&world, total);
        tell(
            &format!("on {partitions}"),
            &format!("{}; at most {}", told(run.rate), mib(run.peak)),
        );
        run.rate
    };
    let (few, many) = (rate_on(4), rate_on(if scale.test { 10 } else { 100 }));
    let share = many.per_second / few.per_second;
    let cpu = many.cpu.as_secs_f64() / few.cpu.as_secs_f64().max(1e-9);
    judge("share", &format!("{share:.2} of the rate, {cpu:.2} of the CPU"), ">= 0.8", share >= 0.8);
}

/// Is weir ready on 1,000 partitions in 5 s and 200 MiB?
pub(super) fn thousand_partitions(scale: Scale) {
    let partitions: i32 = if scale.test { 20 } else { 1_000 };
    let total = scale.events(5_000, 100);
    question(&format!("thousand: {total} events on {partitions} partitions"));
    let world = World::new("thousand", partitions);
    // The topics that weir would make are there, as on every start but the very first.
    for topic in [&world.dlq, &world.journal] {
        world.create(topic);
    }
    for topic in [&world.events, &world.results, &world.dlq, &world.journal] {
        world.led(topic);
    }
    world.fill(&world.events, events(partitions, total, Task::Plain));
    let outsider = world.outsider();
    let mut weir = Weir::start(&world, &[]);
    let ready = weir.ready();
    let done = weir.follow(total, || world.committed(&outsider));
    let first = format!("{:.2} s, all done after {:.2} s", ready.as_secs_f64(), seconds(&done));
    judge("the first start: ready after", &first, "<= 5 s", ready <= Duration::from_secs(5));
    weir.stop();

    world.fill(&world.events, events(partitions, total, Task::Plain));
    let mut weir = Weir::start(&world, &[]);
    let ready = weir.ready();
    let done = weir.follow(total * 2, || world.committed(&outsider));
    let next = format!("{:.2} s, all done after {:.2} s", ready.as_secs_f64(), seconds(&done));
    judge("the next start: ready after", &next, "<= 5 s", ready <= Duration::from_secs(5));
    let peak = weir.peak();
    judge("memory at most", &mib(peak), "<= 200 MiB", peak <= 200 << 20);
}

fn seconds(samples: &[Sample]) -> f64 {
    samples.last().expect("a sample").at.as_secs_f64()
}

/// What does one run that hangs for the whole time cost the others? Target: at most 5 % of the rate.
pub(super) fn stuck_run(scale: Scale) {
    let total = scale.events(200_000, 3_000);
    question(&format!("stuck: a backlog of {total} events, without and with a run that hangs"));
    let model = StandIn::start(Duration::ZERO);
    let rate_with = |task: Task| {
        let world = World::new("stuck", 4);
        let first = std::iter::once((0, event(total, task)));
        world.fill(&world.events, first.chain(events(4, total, Task::Plain)));
        let mut weir = Weir::start(&world, &[("OLLAMA_BASE_URL", &model.url)]);
        // The committed offset stays behind the run that hangs: a reader counts.
        let results = world.count(&world.results, is_success);
        let samples = weir.follow(total, || results.count());
        assert_eq!(results.unlike(), 0, "every result is a success");
        Rate::of_the_middle(&samples, total)
    };
    // In turn, and the medians: whatever else the machine does then falls on both alike.
    let rounds = if scale.test { 1 } else { 3 };
    let (free, stuck): (Vec<_>, Vec<_>) =
        (0..rounds).map(|_| (rate_with(Task::Plain), rate_with(Task::Hang))).unzip();
    let (free, stuck) = (Rate::median(free), Rate::median(stuck));
    tell("without", &told(free));
    let share = 1.0 - stuck.per_second / free.per_second;
    let cpu = stuck.cpu.as_secs_f64() / free.cpu.as_secs_f64().max(1e-9) - 1.0;
    let figure = format!(
        "{}; {:.1} % of the rate, {:+.1} % of CPU",
        told(stuck),
        share * 100.0,
        cpu * 100.0
    );
    judge("with one that hangs", &figure, "<= 5 %", share <= 0.05);
}
