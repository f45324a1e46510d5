//! What do the broker and librdkafka allow on this machine, with nothing of weir in the way?
//!
//! `cargo bench --bench raw` on an idle machine; `-- --events 500000` for steadier figures. The same is measured by
//! `end_to_end`, next to weir, where figures are to be compared.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a bench that can't be set up has nothing to say"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use support::broker::{NO_BROKER, World, address};
use support::events::{Task, events};
use support::figures::{ms, question, tell, told};
use support::hop::{Load, RawHop, latency};
use support::raw;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "end_to_end needs the rest")]
mod support;

/// What a bare rdkafka program gets from the broker.
#[derive(Parser)]
struct Arguments {
    /// How many events the backlog has.
    #[arg(long, default_value_t = 300_000)]
    events: u64,
    /// How long each rate is held.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Once, and small: shows that it works.
    #[arg(long)]
    test: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if address().is_none() {
        eprintln!("raw {NO_BROKER}");
        return if arguments.test { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.test {
        (arguments.events, arguments.seconds) = (5_000, 1);
    }
    backlog(arguments.events);
    hops(Duration::from_secs(arguments.seconds));
    ExitCode::SUCCESS
}

fn backlog(total: u64) {
    question(&format!("a backlog of {total} events of 300 bytes on 4 partitions"));
    let world = World::new("raw", 4);
    world.fill(&world.events, events(4, total, Task::Plain));
    tell("passed through", &told(raw::pass_through(&world, total)));
    tell("in transactions of 1,000, with offsets", &told(raw::transactional(&world, total)));
}

fn hops(time: Duration) {
    question("one transaction of three records and an offset");
    let world = Arc::new(World::new("raw-few", 4));
    let times = raw::few_records(&world, 200);
    tell("p50, p99", &format!("{}, {}", ms(times.quantile(0.5)), ms(times.quantile(0.99))));

    question("a transactional hop, from the producer to a read_committed reader");
    for rate in [50, 1_000] {
        let world = Arc::new(World::new("raw-hop", 4));
        let _hop = RawHop::start(&world);
        let times = latency(&world, &world.copies, Task::Plain, Load { rate, time });
        let figure = format!("{}, {}", ms(times.quantile(0.5)), ms(times.quantile(0.99)));
        tell(&format!("p50, p99 at {rate}/s"), &figure);
    }
}
