//! How a metric is declared: declaring it yields its handle, registers it and adds its row to the table, so that no
//! series exists without a row.

use std::fmt::Write as _;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::series::{Family, Histogram, Make, Partitions};

/// What a metric is, in Prometheus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises; starts at 0 with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How often and how much, in buckets.
    Histogram,
    /// Always 1: its labels are what it says.
    Info,
}

/// A label of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values where the set is closed; empty where values appear as they come.
    pub values: &'static [&'static str],
}

/// One metric, as documented.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name in full, unit and `_total` included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: Vec<Label>,
    /// What it says, without a full stop.
    pub help: &'static str,
}

/// The table while it is being filled.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) registry: Registry,
    pub(super) rows: Vec<Row>,
}

impl Label {
    /// A label whose values are all known.
    pub(super) const fn closed(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values }
    }

    /// A label whose values appear as they come.
    pub(super) const fn open(name: &'static str) -> Self {
        Self { name, values: &[] }
    }
}

impl Row {
    /// The name of the metric family, as the exposition's `HELP` and `TYPE` lines have it.
    #[must_use]
    pub fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }

    /// Splits the family's name into what precedes its unit, and the unit.
    pub(super) fn stem(&self) -> (&'static str, Option<Unit>) {
        let family = self.family();
        for (suffix, unit) in [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)] {
            if let Some(stem) = family.strip_suffix(suffix) {
                return (stem, Some(unit));
            }
        }
        (family, None)
    }
}

impl Kind {
    /// The name as Prometheus writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Table {
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.add(Row { name, kind: Kind::Counter, labels: Vec::new(), help }, counter.clone());
        counter
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        self.add(Row { name, kind: Kind::Gauge, labels: Vec::new(), help }, gauge.clone());
        gauge
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        bounds: &'static [f64],
        help: &'static str,
    ) -> Histogram {
        let histogram = Histogram::new(bounds);
        self.add(Row { name, kind: Kind::Histogram, labels: Vec::new(), help }, histogram.clone());
        histogram
    }

    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [Label; N],
        help: &'static str,
    ) -> Family<Counter, N> {
        let family = Family::new(labels, Make::Plain(Counter::default));
        self.add(Row { name, kind: Kind::Counter, labels: labels.into(), help }, family.clone());
        family
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [Label; N],
        help: &'static str,
    ) -> Family<Gauge, N> {
        let family = Family::new(labels, Make::Plain(Gauge::default));
        self.add(Row { name, kind: Kind::Gauge, labels: labels.into(), help }, family.clone());
        family
    }

    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [Label; N],
        bounds: &'static [f64],
        help: &'static str,
    ) -> Family<Histogram, N> {
        let family = Family::new(labels, Make::Buckets(Histogram::new, bounds));
        self.add(Row { name, kind: Kind::Histogram, labels: labels.into(), help }, family.clone());
        family
    }

    pub(super) fn partitions(&mut self, name: &'static str, help: &'static str) -> Partitions {
        let partitions = Partitions::default();
        let labels = vec![Label::open("partition")];
        self.add(Row { name, kind: Kind::Gauge, labels, help }, partitions.clone());
        partitions
    }

    pub(super) fn info<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [(&'static str, &str); N],
        help: &'static str,
    ) {
        let names = labels.iter().map(|(name, _)| Label::open(name)).collect();
        let labels: Vec<_> = labels.map(|(name, value)| (name, value.to_owned())).into();
        self.add(Row { name, kind: Kind::Info, labels: names, help }, Info::new(labels));
    }

    fn add(&mut self, row: Row, metric: impl Metric) {
        match row.stem() {
            (stem, Some(unit)) => self.registry.register_with_unit(stem, row.help, unit, metric),
            (stem, None) => self.registry.register(stem, row.help, metric),
        }
        self.rows.push(row);
    }
}

/// Writes the rows as a page of the documentation.
pub(super) fn page(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
        `GET /metrics` answers in the OpenMetrics text format. This page is written from the table in\n\
        `src/telemetry/metrics.rs`; a test keeps it current.\n\n\
        Series whose labels are a closed set exist at 0 from the start. The others (error classes, models, partitions)\n\
        appear with their first value. No label ever holds an event's id, key or text.\n\n\
        | name | type | labels | what it says |\n|---|---|---|---|\n",
    );
    for row in rows {
        let labels: Vec<String> = row.labels.iter().map(describe).collect();
        let (name, kind, labels) = (row.name, row.kind.as_str(), labels.join("; "));
        // Writing to a string can't fail.
        if writeln!(text, "| `{name}` | {kind} | {labels} | {} |", row.help).is_err() {
            break;
        }
    }
    text
}

fn describe(label: &Label) -> String {
    match label.values {
        [] => format!("`{}`", label.name),
        values => format!("`{}`: {}", label.name, values.join(", ")),
    }
}
