//! How long a start takes.

use std::time::Duration;

use super::Scale;
use super::support::broker::World;
use super::support::figures::{Times, judge, ms, question, tell};
use super::support::process::Weir;
use super::support::raw;

/// How long from the start of the process to ready, beyond what a bare client takes to join its group? Target: 1 s.
pub(super) fn beyond_the_join(scale: Scale) {
    question("start: from the start of the process to ready");
    let rounds = if scale.test { 1 } else { 7 };
    let world = World::new("start", 4);
    let joins = Times::new((0..rounds).map(|_| raw::join(&world)).collect());
    tell("a bare client joins its group: median", &ms(joins.quantile(0.5)));
    let first = started(&world);
    tell("the very first start, which makes topics", &ms(first));
    let starts = Times::new((0..rounds).map(|_| started(&world)).collect());
    let beyond = starts.quantile(0.5).saturating_sub(joins.quantile(0.5));
    judge(
        "ready: median, most",
        &format!(
            "{}, {}; {} beyond the join",
            ms(starts.quantile(0.5)),
            ms(starts.quantile(1.0)),
            ms(beyond)
        ),
        "<= 1 s beyond",
        beyond <= Duration::from_secs(1),
    );
}

fn started(world: &World) -> Duration {
    let mut weir = Weir::start(world, &[]);
    let ready = weir.ready();
    weir.stop();
    ready
}
