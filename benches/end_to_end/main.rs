//! What does weir add to what Kafka and the model's server cost, and does it stay within its limits?
//!
//! `cargo bench --bench end_to_end -- plain` and the like; without a name all of them, about 15 minutes. Each runs the
//! release binary as a process on topics of its own and measures it from the outside, next to a bare program with the
//! same bytes, so that the figures are ratios. CPU is the process's, which a busy machine changes less than rates. The
//! questions stand with the functions; docs/performance.md has the targets and the answers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a bench that can't be set up has nothing to say"
)]

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use support::broker::{NO_BROKER, address};
use support::stand_in;

#[path = "../support/mod.rs"]
mod support;

mod latency;
mod memory;
mod model;
mod plain;
mod recovery;
mod start;

/// The questions.
#[derive(Debug, Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Name {
    /// A backlog that needs no model, next to bare transactions.
    Plain,
    /// The same on 100 partitions.
    Hundred,
    /// Ready on 1,000 partitions, and how much memory that takes.
    Thousand,
    /// What a run that hangs costs the others.
    Stuck,
    /// What weir adds to a transactional hop.
    Latency,
    /// What the journal adds to it, and how many transactions it takes.
    Journal,
    /// A model that answers at once, next to a bare loop of calls.
    Model,
    /// A model that takes 200 ms, with 256 slots.
    Slots,
    /// Memory of an idle process.
    Idle,
    /// Memory of 10,000 runs that wait for the model.
    Waiting,
    /// Memory over a long backlog.
    Slope,
    /// Memory under a long backlog with the model hung.
    Hung,
    /// From the start of the process to ready.
    Start,
    /// A long journal and 1,000 unfinished runs.
    Recovery,
}

/// Measures weir as a process.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which of them; all, when none is named.
    names: Vec<Name>,
    /// How many events a backlog has, or how many records a journal.
    #[arg(long)]
    events: Option<u64>,
    /// How long rates are held.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Once, and small: shows that it works.
    #[arg(long)]
    test: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    events: Option<u64>,
    time: Duration,
    test: bool,
}

impl Scale {
    /// Returns how many events: as was asked, else `usual`, else few.
    fn events(self, usual: u64, few: u64) -> u64 {
        self.events.unwrap_or(if self.test { few } else { usual })
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(stand_in::ARGUMENT) {
        stand_in::serve(words);
        return ExitCode::SUCCESS;
    }
    let Arguments { names, events, seconds, test, bench: _ } = Arguments::parse();
    if address().is_none() {
        if test {
            eprintln!("end_to_end: no broker: skipped");
            return ExitCode::SUCCESS;
        }
        eprintln!("end_to_end {NO_BROKER}");
        return ExitCode::FAILURE;
    }
    if test {
        eprintln!("end_to_end: so little that its figures say nothing");
    }
    let time = Duration::from_secs(if test { 1 } else { seconds });
    let scale = Scale { events, time, test };
    for name in Name::value_variants() {
        if names.is_empty() || names.contains(name) {
            name.measure(scale);
        }
    }
    ExitCode::SUCCESS
}

impl Name {
    fn measure(self, scale: Scale) {
        match self {
            Self::Plain => plain::backlog_next_to_raw(scale),
            Self::Hundred => plain::hundred_partitions(scale),
            Self::Thousand => plain::thousand_partitions(scale),
            Self::Stuck => plain::stuck_run(scale),
            Self::Latency => latency::added(scale),
            Self::Journal => latency::of_the_journal(scale),
            Self::Model => model::at_once(scale),
            Self::Slots => model::slots(scale),
            Self::Idle => memory::idle(scale),
            Self::Waiting => memory::waiting(scale),
            Self::Slope => memory::slope_of_a_backlog(scale),
            Self::Hung => memory::hung(scale),
            Self::Start => start::beyond_the_join(scale),
            Self::Recovery => recovery::long_journal(scale),
        }
    }
}
