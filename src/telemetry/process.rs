//! The `process_*` series, read from /proc/self when they are asked for.
//!
//! Only /proc/self is read, never /proc/stat: a unit hardened with `ProcSubset=pid` has nothing else. Where there is
//! no /proc the series are absent, as Prometheus' own clients do it.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::table::{Kind, Row};

/// Clock ticks per second in /proc/self/stat: `USER_HZ`, 100 on every architecture that weir is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads what the kernel knows about this process.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since the Unix epoch. Taken when the process makes its metrics, which is the first thing it does: the
    /// kernel counts from boot, and the time of boot is in /proc/stat.
    started: f64,
}

impl Process {
    pub(super) fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: now.as_secs_f64() }
    }

    pub(super) fn rows() -> [Row; 7] {
        let row = |name, kind, help| Row { name, kind, labels: Vec::new(), help };
        [
            row(
                "process_cpu_seconds_total",
                Kind::Counter,
                "CPU time of the process, user and system",
            ),
            row("process_resident_memory_bytes", Kind::Gauge, "Resident memory"),
            row("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory"),
            row("process_open_fds", Kind::Gauge, "Open file descriptors"),
            row("process_max_fds", Kind::Gauge, "Most file descriptors that may be open"),
            row(
                "process_start_time_seconds",
                Kind::Gauge,
                "Start of the process since the Unix epoch",
            ),
            row("process_threads", Kind::Gauge, "Threads"),
        ]
    }

    /// Returns the rows' values, in their order.
    fn values(&self) -> [Option<f64>; 7] {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = |name| number_after(&status, name).map(|kibibytes| kibibytes * 1024.0);
        [
            cpu_seconds(),
            memory("VmRSS:"),
            memory("VmSize:"),
            open_fds(),
            fs::read_to_string("/proc/self/limits")
                .ok()
                .and_then(|limits| number_after(&limits, "Max open files")),
            Some(self.started),
            number_after(&status, "Threads:"),
        ]
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (row, value) in Self::rows().iter().zip(self.values()) {
            let Some(value) = value else { continue };
            let (stem, unit) = row.stem();
            let metric: &dyn EncodeMetric = match row.kind {
                Kind::Counter => &ConstCounter::new(value),
                Kind::Gauge | Kind::Histogram | Kind::Info => &ConstGauge::new(value),
            };
            let help = format!("{}.", row.help);
            let encoder =
                encoder.encode_descriptor(stem, &help, unit.as_ref(), metric.metric_type())?;
            metric.encode(encoder)?;
        }
        Ok(())
    }
}

/// The first number behind `name` at the start of a line.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name is in parentheses and may hold anything, so fields are counted from behind the last one:
    // state is the 3rd field, utime the 14th and stime the 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) / TICKS_PER_SECOND)
}

fn open_fds() -> Option<f64> {
    let listed = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    // The listing holds a descriptor itself.
    Some(f64::from(listed.saturating_sub(1)))
}
