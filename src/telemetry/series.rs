//! The kinds of series that weir records to: what the client library lacks or does under a lock.
//!
//! A label set that is closed is resolved once, when it is declared: recording to it takes no lock and hashes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::table::Label;

/// The most series that one metric grows by at run time; what comes after them is counted as `other`.
const SERIES_MAX: usize = 1000;

/// Counts values into fixed buckets, without a lock.
#[derive(Debug, Clone)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One count for each bound and one for what lies above them all.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// The series of one metric with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Family<M, const N: usize>(Arc<Series<M, N>>);

#[derive(Debug)]
struct Series<M, const N: usize> {
    labels: [Label; N],
    /// The closed part, never changed: found by comparing a handful of short strings.
    known: Vec<([&'static str; N], M)>,
    rest: RwLock<Vec<([String; N], M)>>,
    make: Make<M>,
}

/// Makes a series that nothing was recorded to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Make<M> {
    Plain(fn() -> M),
    Buckets(fn(&'static [f64]) -> M, &'static [f64]),
}

/// A gauge for each assigned partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Partitions(Arc<Mutex<BTreeMap<i32, i64>>>);

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }))
    }

    /// Counts one value.
    pub(super) fn observe(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut bits = self.0.sum.load(Ordering::Relaxed);
        loop {
            let sum = (f64::from_bits(bits) + value).to_bits();
            match self.0.sum.compare_exchange_weak(bits, sum, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => bits = now,
            }
        }
    }
}

impl<M: Clone, const N: usize> Family<M, N> {
    pub(super) fn new(labels: [Label; N], make: Make<M>) -> Self {
        let known = combinations(&labels).into_iter().map(|values| (values, make.call())).collect();
        Self(Arc::new(Series { labels, known, rest: RwLock::default(), make }))
    }

    /// Calls `record` with the series that has these label values, and makes it first if there is none.
    pub(super) fn with(&self, values: [&str; N], record: impl FnOnce(&M)) {
        if let Some((_, series)) = self.0.known.iter().find(|(known, _)| *known == values) {
            return record(series);
        }
        record(&self.grown(values));
    }

    fn grown(&self, values: [&str; N]) -> M {
        let find = |rest: &[([String; N], M)], values: [&str; N]| {
            let same = |known: &[String; N]| known.iter().zip(values).all(|(a, b)| a == b);
            rest.iter().find(|(known, _)| same(known)).map(|(_, series)| series.clone())
        };
        if let Some(series) =
            find(&self.0.rest.read().unwrap_or_else(PoisonError::into_inner), values)
        {
            return series;
        }
        let mut rest = self.0.rest.write().unwrap_or_else(PoisonError::into_inner);
        let values = if rest.len() < SERIES_MAX { values } else { ["other"; N] };
        // Another thread may have made it since the look under the read lock.
        if let Some(series) = find(&rest, values) {
            return series;
        }
        let series = self.0.make.call();
        rest.push((values.map(str::to_owned), series.clone()));
        series
    }
}

impl<M> Make<M> {
    fn call(&self) -> M {
        match self {
            Self::Plain(make) => make(),
            Self::Buckets(make, bounds) => make(bounds),
        }
    }
}

impl Partitions {
    pub(super) fn set(&self, partition: i32, value: i64) {
        self.lock().insert(partition, value);
    }

    pub(super) fn forget(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    /// The sum of the values that are known, or `None` where no partition has one.
    pub(super) fn sum(&self) -> Option<i64> {
        let values = self.lock();
        let known = values.values().filter(|value| **value >= 0);
        known.copied().fold(None, |sum, value| Some(sum.unwrap_or(0i64).saturating_add(value)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns every combination of the labels' values: none as soon as one label is open.
fn combinations<const N: usize>(labels: &[Label; N]) -> Vec<[&'static str; N]> {
    let mut all = vec![[""; N]];
    for (place, label) in labels.iter().enumerate() {
        let with = |values: [&'static str; N], value| {
            let mut values = values;
            if let Some(slot) = values.get_mut(place) {
                *slot = value;
            }
            values
        };
        all = all.into_iter().flat_map(|c| label.values.iter().map(move |v| with(c, v))).collect();
    }
    all
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // The count is the buckets' sum, not a figure of its own, so that a scrape during an observation is consistent.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl<M: EncodeMetric, const N: usize> EncodeMetric for Family<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        // To Prometheus a label with an empty value is a label that isn't there.
        let present = |values: [&str; N]| -> Vec<(&'static str, String)> {
            let pairs = self.0.labels.iter().zip(values);
            pairs.filter(|(_, v)| !v.is_empty()).map(|(l, v)| (l.name, v.to_owned())).collect()
        };
        for (values, series) in &self.0.known {
            series.encode(encoder.encode_family(&present(*values))?)?;
        }
        let rest = self.0.rest.read().unwrap_or_else(PoisonError::into_inner);
        for (values, series) in rest.iter() {
            series
                .encode(encoder.encode_family(&present(values.each_ref().map(String::as_str)))?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.0.make.call().metric_type()
    }
}

impl EncodeMetric for Partitions {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let values = self.lock().clone();
        for (partition, value) in values {
            let labels = [("partition", partition)];
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
