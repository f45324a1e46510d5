//! A weir as a process of its own, seen from the outside.

#![expect(clippy::cast_precision_loss, reason = "a metric is a float")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use tokio::time::Instant;

use super::broker::{PATIENCE, World};
use super::figures::Sample;
use super::stand_in::StandIn;

/// The kernel's unit of CPU time in /proc, on every Linux that Rust runs on: a hundredth of a second.
const TICK: Duration = Duration::from_millis(10);

/// A running weir; killed when dropped.
pub(crate) struct Weir {
    child: Child,
    address: String,
    log: tempfile::NamedTempFile,
    /// The model of a weir that is to have none in particular: without any it would never be ready.
    _model: Option<StandIn>,
    pub(crate) since: Instant,
}

/// Does nothing for a while.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    // A thread may be woken early, for no reason.
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|t| !t.is_zero()) {
        park_timeout(left);
    }
}

/// Returns the CPU time that a process has used; "self" is this one.
pub(crate) fn cpu_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name may hold blanks and brackets; behind it come the state and 10 numbers before utime and stime.
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    let ticks: u32 =
        rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).sum();
    TICK * ticks
}

impl Weir {
    /// Starts `weir run` on a world, with these settings besides.
    pub(crate) fn start(world: &World, settings: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let log = tempfile::NamedTempFile::new().unwrap();
        let named = settings.iter().any(|(name, _)| *name == "OLLAMA_BASE_URL");
        let model = (!named).then(|| StandIn::start(Duration::ZERO));
        let since = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .env_clear()
            .env("KAFKA_BOOTSTRAP_SERVERS", &world.broker)
            .env("KAFKA_CONSUMER_GROUP_ID", &world.group)
            .env("KAFKA_WORKFLOW_EVENTS_TOPIC", &world.events)
            .env("KAFKA_WORKFLOW_RESULTS_TOPIC", &world.results)
            .env("KAFKA_DLQ_TOPIC", &world.dlq)
            .env("KAFKA_JOURNAL_TOPIC", &world.journal)
            .env("KAFKA_AUTO_OFFSET_RESET", "earliest")
            .env("WORKFLOW_RESULT_MIN_AGE", "0")
            .env("LOG_FORMAT", "text")
            .env("HTTP_ADDR", &address)
            .envs(model.iter().map(|model| ("OLLAMA_BASE_URL", &model.url)))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, address, log, _model: model, since }
    }

    /// Waits until `/readyz` is 200, and returns how long that took since the start.
    pub(crate) fn ready(&mut self) -> Duration {
        loop {
            if self.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200")) {
                return self.since.elapsed();
            }
            self.must_live("was never ready");
            pause(Duration::from_millis(5));
        }
    }

    /// Returns the sum of a metric's series.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.page("/metrics").unwrap_or_default();
        let of =
            |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = page.lines().filter(|line| of(line));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Takes samples until `done` says `total`.
    pub(crate) fn follow(&mut self, total: u64, mut done: impl FnMut() -> u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut progress = (0, Instant::now());
        loop {
            let sample = self.sample(done());
            samples.push(sample);
            if sample.done >= total {
                return samples;
            }
            if sample.done > progress.0 {
                progress = (sample.done, Instant::now());
            }
            assert!(progress.1.elapsed() < PATIENCE, "stuck at {}:\n{}", sample.done, self.log());
            self.must_live("ended");
            pause(Duration::from_millis(20));
        }
    }

    /// Waits until a metric has reached a value.
    pub(crate) fn follow_metric(&mut self, name: &str, value: u64) {
        while self.metric(name) < value as f64 {
            let late = self.since.elapsed() > PATIENCE;
            assert!(!late, "{name} is {}:\n{}", self.metric(name), self.log());
            self.must_live("ended");
            pause(Duration::from_millis(50));
        }
    }

    pub(crate) fn sample(&self, done: u64) -> Sample {
        let process = self.child.id().to_string();
        Sample {
            at: self.since.elapsed(),
            done,
            cpu: cpu_of(&process),
            rss: self.kilobytes("VmRSS:") * 1024,
        }
    }

    /// Returns the most memory that it ever had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.kilobytes("VmHWM:") * 1024
    }

    fn kilobytes(&self, field: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// Ends it as an operator would, so that its group knows.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }

    fn must_live(&mut self, what: &str) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none() && self.since.elapsed() < PATIENCE * 30, "{what}:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
