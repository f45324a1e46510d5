//! Figures, and how they are told.

#![expect(clippy::print_stdout, reason = "figures are what a bench is for")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded"
)]

use std::time::Duration;

/// A rate and what it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    /// CPU time per record.
    pub(crate) cpu: Duration,
}

/// What a process had done, and spent, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) done: u64,
    pub(crate) cpu: Duration,
    /// Resident bytes.
    pub(crate) rss: u64,
}

/// Latencies, or any other times, in order.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Rate {
    pub(crate) fn of(count: u64, time: Duration, cpu: Duration) -> Self {
        let cpu = Duration::from_secs_f64(cpu.as_secs_f64() / count.max(1) as f64);
        Self { per_second: count as f64 / time.as_secs_f64().max(1e-9), cpu }
    }

    /// Returns the median rate and the median cost.
    pub(crate) fn median(mut rates: Vec<Self>) -> Self {
        let middle = rates.len() / 2;
        rates.sort_unstable_by(|left, right| left.per_second.total_cmp(&right.per_second));
        let per_second = rates[middle].per_second;
        rates.sort_unstable_by_key(|rate| rate.cpu);
        Self { per_second, cpu: rates[middle].cpu }
    }

    /// Returns the rate between a tenth and nine tenths of `total`: from the last sample before the one to the first
    /// after the other.
    pub(crate) fn of_the_middle(samples: &[Sample], total: u64) -> Self {
        let before = samples.iter().rfind(|sample| sample.done * 10 <= total);
        let after = samples.iter().find(|sample| sample.done * 10 >= total * 9);
        let from = before.or_else(|| samples.first()).expect("a sample");
        let to = after.or_else(|| samples.last()).expect("a sample");
        Self::of(to.done - from.done, to.at - from.at, to.cpu.saturating_sub(from.cpu))
    }
}

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the time that this share of all is at most.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let last = self.0.len().checked_sub(1).expect("a time");
        self.0[(last as f64 * share).round() as usize]
    }
}

/// Returns the slope of the resident memory in MiB per million events, over the last four fifths.
pub(crate) fn slope(samples: &[Sample], total: u64) -> f64 {
    let late: Vec<_> = samples
        .iter()
        .filter(|sample| sample.done >= total / 5)
        .map(|sample| (sample.done as f64 / 1e6, sample.rss as f64 / (1024.0 * 1024.0)))
        .collect();
    let count = late.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| late.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = late.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = late.iter().map(|point| (point.0 - x).powi(2)).sum();
    covariance / variance.max(1e-12)
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn us(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}

pub(crate) fn told(rate: Rate) -> String {
    format!("{:.0}/s, {} CPU each", rate.per_second, us(rate.cpu))
}

/// Begins a bench's figures with its question.
pub(crate) fn question(text: &str) {
    println!("\n{text}");
}

/// Tells a figure.
pub(crate) fn tell(what: &str, figure: &str) {
    println!("  {what:<52} {figure}");
}

/// Tells a figure that has a target.
pub(crate) fn judge(what: &str, figure: &str, target: &str, held: bool) {
    println!("  {what:<52} {figure}   (target {target}: {})", if held { "held" } else { "MISSED" });
}
