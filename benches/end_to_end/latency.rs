//! How long an event takes, from its producer to a reader of its result.

use std::sync::Arc;
use std::time::Duration;

use super::Scale;
use super::model;
use super::support::broker::World;
use super::support::events::Task;
use super::support::figures::{Times, judge, ms, question, tell, told};
use super::support::hop::{Load, RawHop, latency};
use super::support::process::Weir;
use super::support::raw;
use super::support::stand_in::StandIn;

/// What does weir add to a bare transactional hop? Targets: 1 ms at the median, and no more than as much again at p99.
pub(super) fn added(scale: Scale) {
    question("latency: from the producer to a read_committed reader, least age 0");
    for rate in [50, 1_000] {
        let load = Load { rate, time: scale.time };
        let bare = {
            let world = Arc::new(World::new("hop", 4));
            let _hop = RawHop::start(&world);
            latency(&world, &world.copies, Task::Plain, load)
        };
        tell(&format!("a bare hop at {rate}/s: p50, p99"), &both(&bare));
        let world = World::new("latency", 4);
        let mut weir = Weir::start(&world, &[]);
        weir.ready();
        let times = latency(&world, &world.results, Task::Plain, load);
        let (p50, p99) = (times.quantile(0.5), times.quantile(0.99));
        judge(
            &format!("weir at {rate}/s: p50, p99"),
            &both(&times),
            "<= bare + 1 ms, <= 2 x bare",
            p50 <= bare.quantile(0.5) + Duration::from_millis(1) && p99 <= bare.quantile(0.99) * 2,
        );
    }
}

/// What does it cost that an answer is kept? Targets: one transaction for each batch more, and one transaction's time for
/// each node. A run that ends with its answer keeps it as its result, and should pay neither.
pub(super) fn of_the_journal(scale: Scale) {
    question(
        "journal: events with one call, answered at once, with the journal in sync and without",
    );
    let few = raw::few_records(&World::new("few", 4), if scale.test { 20 } else { 200 });
    tell("one bare transaction of a few records: p50, p99", &both(&few));
    let model = StandIn::start(Duration::ZERO);
    let load = Load { rate: 50, time: scale.time };
    let [off, sync] = ["off", "sync"].map(|durability| {
        let world = World::new("journal", 4);
        let mut weir = Weir::start(
            &world,
            &[("OLLAMA_BASE_URL", &model.url), ("WORKFLOW_DURABILITY", durability)],
        );
        weir.ready();
        latency(&world, &world.results, Task::Model, load)
    });
    tell("off, at 50/s: p50, p99", &both(&off));
    let added = sync.quantile(0.5).saturating_sub(off.quantile(0.5));
    judge(
        "sync, at 50/s: p50, p99",
        &format!("{}; {} more", both(&sync), ms(added)),
        "<= one transaction",
        added <= few.quantile(0.5),
    );
    let total = scale.events(20_000, 500);
    let [off, sync] = ["off", "sync"].map(|durability| {
        let (rate, weir) = model::work_off(total, &model, &[("WORKFLOW_DURABILITY", durability)]);
        let transactions = weir.metric("weir_transactions_total");
        let figure = format!("{transactions:.0} transactions, {}", told(rate));
        tell(&format!("{durability}, a backlog of {total}"), &figure);
        transactions
    });
    judge("transactions", &format!("{:.2} as many", sync / off), "<= 2", sync <= off * 2.0);
}

fn both(times: &Times) -> String {
    format!("{}, {}", ms(times.quantile(0.5)), ms(times.quantile(0.99)))
}
