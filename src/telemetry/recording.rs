//! How the rooms record: one method for each thing that happens.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::metrics::Metrics;

/// The one operation that weir asks of a model, in OpenTelemetry's words.
const OPERATION: &str = "chat";

/// A call to a model that has ended.
#[derive(Debug, Clone, Copy)]
pub struct LlmCall<'a> {
    /// Whose interface was called: `ollama` or `openai`.
    pub provider: &'static str,
    /// The model, as configured.
    pub model: &'a str,
    /// `ok`, or the error's class.
    pub outcome: &'static str,
    /// From the request to the end of the answer.
    pub total: Duration,
    /// From the request to the first chunk of the answer, if one came.
    pub first_byte: Option<Duration>,
    /// Tokens of the prompt, as the model counted them; 0 where it didn't.
    pub input_tokens: u64,
    /// Tokens of the answer, as the model counted them; 0 where it didn't.
    pub output_tokens: u64,
}

impl Metrics {
    /// Counts records taken off the events topic.
    pub fn records_consumed(&self, n: u64) {
        self.0.consumer.records.inc_by(n);
    }

    /// Counts records that were read again though they were settled.
    pub fn record_skipped(&self, n: u64) {
        self.0.consumer.skipped.inc_by(n);
    }

    /// Counts events that ask for nothing.
    pub fn ignored(&self, n: u64) {
        self.0.consumer.ignored.inc_by(n);
    }

    /// Counts an event whose deadline can't be read.
    pub fn deadline_unreadable(&self) {
        self.0.consumer.unreadable_deadlines.inc();
    }

    /// Counts a rebalance: `assign`, `revoke` or `lost`.
    pub fn rebalance(&self, kind: &'static str) {
        self.0.consumer.rebalances.with([kind], count);
    }

    /// Sets how many partitions are assigned.
    pub fn assigned_partitions(&self, n: i64) {
        self.0.consumer.assigned.set(n);
    }

    /// Sets a partition's lag; -1 = not known.
    pub fn lag(&self, partition: i32, records: i64) {
        self.0.consumer.lag.set(partition, records);
    }

    /// Removes the series of a partition that is no longer assigned.
    pub fn forget_partition(&self, partition: i32) {
        self.0.consumer.lag.forget(partition);
        self.0.journal.read.forget(partition);
    }

    /// Counts a transaction (`committed`, `aborted` or `fenced`); its records only when it was committed.
    #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 records")]
    pub fn transaction(&self, outcome: &'static str, took: Duration, records: u64) {
        self.0.writer.transactions.with([outcome], count);
        self.0.writer.duration.observe(took.as_secs_f64());
        if outcome == "committed" {
            self.0.writer.records.observe(records as f64);
        }
    }

    /// Counts unfinished events that the topic does not hold any more.
    pub fn offsets_gone(&self, n: u64) {
        self.0.journal.gone.inc_by(n);
    }

    /// Counts partitions that a transaction which hangs begins to hold up, or ceases to.
    pub fn hanging(&self, change: i64) {
        self.0.writer.hanging.inc_by(change);
    }

    /// Counts the recovery of a partition: how much of the journal was read, and how many effects are still needed.
    pub fn recovery(&self, partition: i32, records_read: u64, effects_kept: u64) {
        self.0.journal.recoveries.inc();
        self.0.journal.effects.inc_by(effects_kept);
        self.0.journal.read.set(partition, i64::try_from(records_read).unwrap_or(i64::MAX));
    }

    /// Counts records that were committed to the journal.
    pub fn journal_records(&self, n: u64, bytes: u64) {
        self.0.journal.records.inc_by(n);
        self.0.journal.bytes.inc_by(bytes);
    }

    /// Sets the most runs that may be in flight.
    pub fn concurrency_limit(&self, n: i64) {
        self.0.work.limit.set(n);
    }

    /// Sets how many runs hold a permit.
    pub fn in_flight(&self, n: i64) {
        self.0.work.in_flight.set(n);
    }

    /// Sets how many received offsets are not settled, over all partitions.
    pub fn unsettled(&self, n: i64) {
        self.0.work.unsettled.set(n);
    }

    /// Sets how many runs wait for a permit.
    pub fn ready_queue(&self, n: i64) {
        self.0.work.ready.set(n);
    }

    /// Sets how many runs wait for their next attempt.
    pub fn waiting_retry(&self, n: i64) {
        self.0.work.waiting_retry.set(n);
    }

    /// Sets how many results wait for their least age.
    pub fn held(&self, n: i64) {
        self.0.work.held.set(n);
    }

    /// Counts a result that was committed: `success`, `failure` or `error`.
    pub fn result(&self, status: &'static str) {
        self.0.work.results.with([status], count);
    }

    /// Counts a dead letter that was committed.
    pub fn dead_letter(&self, class: &'static str) {
        self.0.work.dead_letters.with([class], count);
    }

    /// Counts an attempt that is to be repeated.
    pub fn retry(&self, class: &'static str) {
        self.0.work.retries.with([class], count);
    }

    /// Counts a run that ended, from its first attempt's start: `success`, `failure` or `error`.
    pub fn run(&self, duration: Duration, status: &'static str) {
        self.0.runs.duration.with([status], |series| series.observe(duration.as_secs_f64()));
    }

    /// Counts a node that was executed; `node` comes from the graph, not from an event.
    pub fn node(&self, node: &str, duration: Duration, ok: bool) {
        self.0.runs.nodes.with([node, if ok { "ok" } else { "error" }], count);
        self.0.runs.node_duration.with([node], |series| series.observe(duration.as_secs_f64()));
    }

    /// Makes the series of a configured model, so that they exist before its first call.
    pub fn llm_model(&self, provider: &'static str, model: &str) {
        let labels = [OPERATION, provider, model];
        self.0.llm.duration.with([OPERATION, provider, model, ""], |_| ());
        self.0.llm.first_chunk.with(labels, |_| ());
        self.0.llm.input_tokens.with(labels, |_| ());
        self.0.llm.output_tokens.with(labels, |_| ());
    }

    /// Counts a call to a model that has ended, well or not.
    pub fn llm_call(&self, call: &LlmCall<'_>) {
        let labels = [OPERATION, call.provider, call.model];
        let error = if call.outcome == "ok" { "" } else { call.outcome };
        let seconds = call.total.as_secs_f64();
        let llm = &self.0.llm;
        llm.duration.with([OPERATION, call.provider, call.model, error], |s| s.observe(seconds));
        if let Some(first) = call.first_byte {
            llm.first_chunk.with(labels, |series| series.observe(first.as_secs_f64()));
        }
        llm.input_tokens.with(labels, |series| _ = series.inc_by(call.input_tokens));
        llm.output_tokens.with(labels, |series| _ = series.inc_by(call.output_tokens));
    }

    /// Adds to how many calls to a model are open, at an endpoint named by its host and port.
    pub fn llm_in_flight(&self, endpoint: &str, delta: i64) {
        self.0.llm.in_flight.inc_by(delta);
        self.0.llm.endpoint_in_flight.with([endpoint], |series| _ = series.inc_by(delta));
    }

    /// Says where the breaker of a model at an endpoint stands: 0 closed, 1 half-open, 2 open.
    pub fn llm_breaker(&self, endpoint: &str, model: &str, state: i64) {
        self.0.llm.breaker.with([endpoint, model], |series| _ = series.set(state));
    }

    /// Counts how long a call waited for its permit.
    pub fn llm_permit_wait(&self, wait: Duration) {
        self.0.llm.permit_wait.observe(wait.as_secs_f64());
    }

    /// Counts a panic. The panic hook calls it: who catches one doesn't.
    pub fn panic(&self) {
        self.0.panics.inc();
    }
}

fn count(series: &Counter) {
    series.inc();
}
