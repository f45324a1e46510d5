//! The table of metrics, and the one handle that records to it.
//!
//! Every series that weir exposes is declared in this file (`process_*` in `process.rs`); docs/metrics.md is written
//! from the same table. Labels come from closed sets, from error classes, or from the configuration: never from an
//! event. What is closed exists at 0 from the start, so that `rate()` and `absent()` work.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use super::table::{Kind, Label, Row};

use super::process::Process;
use super::series::{Family, Histogram, Partitions};
use super::table::{self, Table};

/// Seconds that a run, a node or a wait for a permit takes: model work is long.
const LONG: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
];
/// Seconds of a model's answer, as OpenTelemetry advises (doubling from 0.01), continued up to half an hour.
const MODEL: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36, 1310.72, 1800.0,
];
/// Seconds of a transaction.
const TRANSACTION: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Records of a transaction.
const BATCH: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

const STATUS: &[&str] = &["success", "failure", "error"];
const NODES: &[&str] = &["orchestrator", "data_agent", "analysis_agent", "llm_analysis"];

/// Records what weir does. Cheap to clone; every clone records to the same series.
#[derive(Clone)]
pub struct Metrics(pub(super) Arc<Inner>);

pub(super) struct Inner {
    registry: Registry,
    rows: Vec<Row>,
    pub(super) consumer: Consumer,
    pub(super) work: Work,
    pub(super) runs: Runs,
    pub(super) writer: Writer,
    pub(super) journal: Journal,
    pub(super) llm: Llm,
    pub(super) panics: Counter,
}

pub(super) struct Consumer {
    pub(super) records: Counter,
    pub(super) skipped: Counter,
    pub(super) ignored: Counter,
    pub(super) unreadable_deadlines: Counter,
    pub(super) rebalances: Family<Counter, 1>,
    pub(super) assigned: Gauge,
    pub(super) lag: Partitions,
}

pub(super) struct Work {
    pub(super) limit: Gauge,
    pub(super) in_flight: Gauge,
    pub(super) ready: Gauge,
    pub(super) waiting_retry: Gauge,
    pub(super) held: Gauge,
    pub(super) unsettled: Gauge,
    pub(super) results: Family<Counter, 1>,
    pub(super) dead_letters: Family<Counter, 1>,
    pub(super) retries: Family<Counter, 1>,
}

pub(super) struct Runs {
    pub(super) duration: Family<Histogram, 1>,
    pub(super) nodes: Family<Counter, 2>,
    pub(super) node_duration: Family<Histogram, 1>,
}

pub(super) struct Writer {
    pub(super) transactions: Family<Counter, 1>,
    pub(super) duration: Histogram,
    pub(super) records: Histogram,
    pub(super) hanging: Gauge,
}

pub(super) struct Journal {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) recoveries: Counter,
    pub(super) effects: Counter,
    pub(super) gone: Counter,
    pub(super) read: Partitions,
}

pub(super) struct Llm {
    pub(super) duration: Family<Histogram, 4>,
    pub(super) first_chunk: Family<Histogram, 3>,
    pub(super) input_tokens: Family<Counter, 3>,
    pub(super) output_tokens: Family<Counter, 3>,
    pub(super) in_flight: Gauge,
    pub(super) endpoint_in_flight: Family<Gauge, 1>,
    pub(super) breaker: Family<Gauge, 2>,
    pub(super) permit_wait: Histogram,
}

impl Metrics {
    /// Makes every series, those of closed label sets at 0.
    ///
    /// `librdkafka` is the version of the library that was linked.
    #[must_use]
    pub fn new(librdkafka: &str) -> Self {
        let mut table = Table::default();
        let inner = Inner {
            consumer: Consumer::declare(&mut table),
            work: Work::declare(&mut table),
            runs: Runs::declare(&mut table),
            writer: Writer::declare(&mut table),
            journal: Journal::declare(&mut table),
            llm: Llm::declare(&mut table),
            panics: table.counter("weir_panics_total", "Panics, caught or not"),
            registry: Registry::default(),
            rows: Vec::new(),
        };
        table.info(
            "weir_build_info",
            [
                ("version", env!("CARGO_PKG_VERSION")),
                ("revision", option_env!("WEIR_REVISION").unwrap_or("unknown")),
                ("rustc", env!("CARGO_PKG_RUST_VERSION")),
                ("librdkafka", librdkafka),
            ],
            "What was built, from which commit and with what",
        );
        table.rows.extend(Process::rows());
        table.registry.register_collector(Box::new(Process::start()));
        Self(Arc::new(Inner { registry: table.registry, rows: table.rows, ..inner }))
    }

    /// Returns every metric there is, in the order of the exposition.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0.rows
    }

    /// Returns all series in the OpenMetrics text format; `process_*` is read at this moment.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(32 * 1024);
        // Writing to a string can't fail.
        if text::encode(&mut text, &self.0.registry).is_err() {
            text.clear();
        }
        text
    }

    /// Returns in a few words how much there is to do.
    #[must_use]
    pub fn summary(&self) -> String {
        let Work { in_flight, unsettled, .. } = &self.0.work;
        let lag = self.0.consumer.lag.sum().map(|lag| format!(", lag {lag}")).unwrap_or_default();
        format!("{} in flight, {} unsettled{lag}", in_flight.get(), unsettled.get())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new("unknown")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Returns docs/metrics.md.
#[must_use]
pub fn markdown() -> String {
    table::page(Metrics::default().rows())
}

impl Consumer {
    fn declare(table: &mut Table) -> Self {
        Self {
            records: table.counter("weir_records_consumed_total", "Records taken off the events topic"),
            skipped: table.counter(
                "weir_records_skipped_total",
                "Records read again though an earlier life had settled them",
            ),
            ignored: table.counter(
                "weir_events_ignored_total",
                "Events that ask for nothing: workflow.completed, workflow.failed, workflow.result",
            ),
            unreadable_deadlines: table.counter(
                "weir_deadlines_unreadable_total",
                "Events run without their deadline, as their header weir-deadline can't be read",
            ),
            rebalances: table.counters(
                "weir_consumer_rebalances_total",
                [Label::closed("kind", &["assign", "revoke", "lost"])],
                "Changes of the assignment",
            ),
            assigned: table.gauge("weir_consumer_assigned_partitions", "Partitions assigned to this instance"),
            lag: table.partitions(
                "weir_consumer_lag_records",
                "Records between the committed offset and the end of an assigned partition; -1 = not known",
            ),
        }
    }
}

impl Work {
    fn declare(table: &mut Table) -> Self {
        Self {
            limit: table.gauge("weir_concurrency_limit", "Most runs that may be in flight"),
            in_flight: table.gauge("weir_workflows_in_flight", "Runs that hold a permit"),
            ready: table.gauge("weir_workflow_queue_depth", "Events that wait for a permit"),
            waiting_retry: table
                .gauge("weir_workflows_waiting_retry", "Runs that wait for their next attempt"),
            held: table
                .gauge("weir_results_held", "Finished runs whose result waits for its least age"),
            unsettled: table.gauge(
                "weir_offsets_unsettled",
                "Offsets received and not settled, over all assigned partitions",
            ),
            results: table.counters(
                "weir_results_total",
                [Label::closed("status", STATUS)],
                "Results, one for each event",
            ),
            dead_letters: table.counters(
                "weir_dead_letters_total",
                [Label::open("class")],
                "Dead letters by error class (docs/errors.md)",
            ),
            retries: table.counters(
                "weir_retries_total",
                [Label::open("class")],
                "Attempts to be repeated, by the error class of the one before",
            ),
        }
    }
}

impl Runs {
    fn declare(table: &mut Table) -> Self {
        Self {
            duration: table.histograms(
                "weir_workflow_duration_seconds",
                [Label::closed("status", STATUS)],
                LONG,
                "A run's own time, without the wait for its permit",
            ),
            nodes: table.counters(
                "weir_node_executions_total",
                [Label::closed("node", NODES), Label::closed("outcome", &["ok", "error"])],
                "Nodes executed; one whose update came from the journal was not",
            ),
            node_duration: table.histograms(
                "weir_node_duration_seconds",
                [Label::closed("node", NODES)],
                LONG,
                "Time of a node's execution",
            ),
        }
    }
}

impl Writer {
    fn declare(table: &mut Table) -> Self {
        Self {
            transactions: table.counters(
                "weir_transactions_total",
                [Label::closed("outcome", &["committed", "aborted", "fenced"])],
                "Transactions by outcome",
            ),
            duration: table.histogram(
                "weir_transaction_duration_seconds",
                TRANSACTION,
                "Time of a transaction, from its first record to the known outcome",
            ),
            records: table.histogram(
                "weir_transaction_records",
                BATCH,
                "Records of a committed transaction: results, dead letters and journal records",
            ),
            hanging: table.gauge(
                "weir_partitions_held_up",
                "Partitions whose recovery or readers wait for a transaction that nobody is going to end \
                 (docs/operations.md); anything but 0 needs an operator",
            ),
        }
    }
}

impl Journal {
    fn declare(table: &mut Table) -> Self {
        Self {
            records: table.counter("weir_journal_records_total", "Records written to the journal"),
            bytes: table.counter("weir_journal_bytes_total", "Bytes written to the journal"),
            recoveries: table
                .counter("weir_recoveries_total", "Partitions recovered after their assignment"),
            effects: table.counter(
                "weir_recovery_effects_total",
                "Effects of unfinished runs that recoveries found and that are not repeated",
            ),
            gone: table.counter(
                "weir_recovery_offsets_gone_total",
                "Unfinished events of an earlier life that the topic does not hold any more: retention or compaction",
            ),
            read: table.partitions(
                "weir_recovery_records",
                "Journal records read by the last recovery of an assigned partition",
            ),
        }
    }
}

impl Llm {
    fn declare(table: &mut Table) -> Self {
        let [operation, provider, model] =
            ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
                .map(Label::open);
        let labels = [operation, provider, model];
        Self {
            duration: table.histograms(
                "gen_ai_client_operation_duration_seconds",
                [operation, provider, model, Label::open("error_type")],
                MODEL,
                "Time of a call to a model; error_type is the error class, absent when it went well",
            ),
            first_chunk: table.histograms(
                "gen_ai_client_operation_time_to_first_chunk_seconds",
                labels,
                MODEL,
                "Time from the request to the first chunk of the answer",
            ),
            input_tokens: table.counters(
                "gen_ai_client_inference_usage_input_tokens_total",
                labels,
                "Tokens of prompts, as the model counted them",
            ),
            output_tokens: table.counters(
                "gen_ai_client_inference_usage_output_tokens_total",
                labels,
                "Tokens of answers, as the model counted them",
            ),
            in_flight: table.gauge("weir_llm_requests_in_flight", "Calls to a model that are open"),
            endpoint_in_flight: table.gauges(
                "weir_llm_endpoint_requests_in_flight",
                [Label::open("endpoint")],
                "Calls to a model that are open, by endpoint",
            ),
            breaker: table.gauges(
                "weir_llm_breaker_state",
                [Label::open("endpoint"), Label::open("model")],
                "Whether an endpoint is asked for a model: 0 = it is, 1 = one call tries, 2 = it rests; \
                 absent before its first rest",
            ),
            permit_wait: table.histogram(
                "weir_llm_permits_wait_seconds",
                LONG,
                "Time that a call waited for its permit",
            ),
        }
    }
}
