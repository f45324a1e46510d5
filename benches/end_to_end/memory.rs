//! How much memory weir takes, and whether that is bounded by its limits or by the backlog.

use std::time::Duration;

use super::Scale;
use super::plain::work_off;
use super::support::broker::World;
use super::support::events::{Task, events};
use super::support::figures::{judge, mib, question, slope, tell};
use super::support::process::{Weir, pause};
use super::support::stand_in::StandIn;

/// How much does a process take that has nothing to do? Target: 30 MiB.
pub(super) fn idle(scale: Scale) {
    question("idle: memory of a process without work");
    let world = World::new("idle", 4);
    let mut weir = Weir::start(&world, &[]);
    weir.ready();
    pause(if scale.test { Duration::from_millis(200) } else { Duration::from_secs(10) });
    let rss = weir.sample(0).rss;
    judge("resident", &mib(rss), "<= 30 MiB", rss <= 30 << 20);
}

/// How much do runs take that wait for the model? Target: 256 MiB with 10,000 of them.
pub(super) fn waiting(scale: Scale) {
    let runs = scale.events(10_000, 500);
    question(&format!("waiting: {runs} runs that wait for a model that never answers"));
    let partitions = 12;
    let world = World::new("waiting", partitions);
    world.fill(&world.events, events(partitions, runs, Task::Hang));
    let model = StandIn::start(Duration::ZERO);
    let mut weir = Weir::start(
        &world,
        &[
            ("OLLAMA_BASE_URL", &model.url),
            ("OLLAMA_MAX_CONCURRENCY", "256"),
            ("WORKFLOW_MAX_IN_FLIGHT", &runs.to_string()),
        ],
    );
    // What counts is what weir has started, not what is done.
    weir.follow_metric("weir_workflows_in_flight", runs);
    pause(Duration::from_secs(if scale.test { 0 } else { 3 }));
    let (rss, peak) = (weir.sample(0).rss, weir.peak());
    let figure = format!("{}, at most {}", mib(rss), mib(peak));
    judge("resident", &figure, "<= 256 MiB", peak <= 256 << 20);
}

/// Does memory stay flat over a long time of work? Target: flat.
pub(super) fn slope_of_a_backlog(scale: Scale) {
    let total = scale.events(1_000_000, 4_000);
    question(&format!("slope: memory over {total} events"));
    let world = World::new("slope", 4);
    world.fill(&world.events, events(4, total, Task::Plain));
    let run = work_off(&world, total);
    for tenths in [1, 2, 4, 6, 8, 10] {
        let at = run.samples.iter().find(|sample| sample.done >= total * tenths / 10);
        let at = at.or_else(|| run.samples.last()).expect("a sample");
        tell(&format!("resident after {}", at.done), &mib(at.rss));
    }
    let slope = slope(&run.samples, total);
    let figure = format!("{slope:+.1} MiB per million, at most {}", mib(run.peak));
    judge("slope of the last four fifths", &figure, "<= 5 MiB per million", slope <= 5.0);
}

/// Is memory bounded when the model hangs and events keep coming? Target: it stops growing.
pub(super) fn hung(scale: Scale) {
    let total = scale.events(1_000_000, 4_000);
    question(&format!("hung: a backlog of {total} events and a model that never answers"));
    let world = World::new("hung", 4);
    world.fill(&world.events, events(4, total, Task::Hang));
    let model = StandIn::start(Duration::ZERO);
    let mut weir = Weir::start(&world, &[("OLLAMA_BASE_URL", &model.url)]);
    weir.follow_metric("weir_workflows_in_flight", total.min(512));
    let step = Duration::from_millis(if scale.test { 100 } else { 10_000 });
    let resident = [0; 4].map(|_| {
        pause(step);
        let rss = weir.sample(0).rss;
        tell(&format!("resident after {:.0} s", weir.since.elapsed().as_secs_f64()), &mib(rss));
        rss
    });
    let unsettled = weir.metric("weir_offsets_unsettled");
    tell("events held", &format!("{unsettled:.0}"));
    let growth = resident[3].saturating_sub(resident[1]);
    judge("growth over the last half", &mib(growth), "<= 1 MiB", growth <= 1 << 20);
}
