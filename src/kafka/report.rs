//! What the clients say about their connections, in words for the operator: one line per trouble, and one reason.
//!
//! librdkafka repeats itself with each attempt to connect, several times a second, each time a little differently. Here
//! its log goes to `tracing` (target `librdkafka`) with repeats at debug level, and its errors become one reason that
//! stays the same as long as the trouble does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::{
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::telemetry::Component;

use super::{Kind, error};

/// For how long the same log line is a repeat.
const REPEAT: Duration = Duration::from_mins(1);

/// How many different log lines are remembered.
const LINES_MAX: usize = 256;

/// Shared by all clients of the process; clones are the same.
#[derive(Debug, Clone)]
pub struct Reporter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: String,
    health: Component,
    waiting: Mutex<Waiting>,
    /// How many times no broker could be reached any more.
    outages: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    lines: Mutex<HashMap<String, Instant>>,
}

/// Why Kafka can't be worked with: the step that waits says more than that no broker is there.
#[derive(Debug, Default)]
struct Waiting {
    step: Option<String>,
    brokers: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    kind: Kind,
    reason: String,
}

impl Reporter {
    /// Returns the reporter of clients that connect to `servers`; `health` gets their reason.
    #[must_use]
    pub fn new(servers: &str, health: Component) -> Self {
        Self(Arc::new(Inner {
            servers: servers.to_owned(),
            health,
            waiting: Mutex::default(),
            outages: AtomicU64::new(0),
            trouble: Mutex::new(None),
            lines: Mutex::new(HashMap::new()),
        }))
    }

    /// Returns the brokers that its clients begin with.
    pub(crate) fn servers(&self) -> &str {
        &self.0.servers
    }

    /// Notes that a broker answers.
    pub(crate) fn up(&self) {
        let mut waiting = lock(&self.0.waiting);
        if waiting.brokers.take().is_some() {
            *lock(&self.0.trouble) = None;
            self.publish(&waiting);
        }
    }

    /// Says whether no broker can be reached, as far as is known.
    pub(crate) fn is_unreachable(&self) -> bool {
        lock(&self.0.waiting).brokers.is_some()
    }

    /// Returns how many times no broker could be reached any more.
    pub(crate) fn outages(&self) -> u64 {
        self.0.outages.load(Ordering::Relaxed)
    }

    /// Says what is being waited for; [`ready`](Self::ready) takes it back.
    pub(crate) fn waiting(&self, reason: impl Into<String>) {
        let mut waiting = lock(&self.0.waiting);
        waiting.step = Some(reason.into());
        self.publish(&waiting);
    }

    /// Says that Kafka can be worked with.
    pub(crate) fn ready(&self) {
        let mut waiting = lock(&self.0.waiting);
        *waiting = Waiting::default();
        self.publish(&waiting);
    }

    fn publish(&self, waiting: &Waiting) {
        match waiting.step.as_ref().or(waiting.brokers.as_ref()) {
            Some(reason) => self.0.health.waiting(reason.clone()),
            None => self.0.health.ready(),
        }
    }

    /// Returns what is wrong with the connections, told with what to do, when something is.
    pub(crate) fn trouble(&self) -> Option<error::Error> {
        let trouble = lock(&self.0.trouble).clone()?;
        Some(error::Error::new(trouble.kind, trouble.told(&self.0.servers)))
    }

    /// Returns the error, or why the connections don't work where the error only says that they don't.
    pub(crate) fn explain(&self, error: error::Error) -> error::Error {
        let vague = matches!(error.kind, Kind::Unreachable | Kind::TimedOut | Kind::Other);
        match self.trouble() {
            Some(trouble) if vague => trouble,
            None if matches!(error.kind, Kind::Unreachable | Kind::TimedOut) => {
                error::Error::new(error.kind, unreachable(&self.0.servers, None))
            }
            Some(_) | None => error,
        }
    }

    /// Forgets earlier trouble, so that an answer to the next attempt is about that attempt.
    pub(crate) fn forget(&self) {
        *lock(&self.0.trouble) = None;
    }

    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Every such line comes as an error event as well, and is told there.
        let twice = matches!(facility, "FAIL" | "ERROR");
        if twice || self.is_repeat(facility, message) {
            debug!(target: "librdkafka", facility, "{message}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => error!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // Reading a journal to its end is no trouble.
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let kind = Kind::of(code);
        if code != RDKafkaErrorCode::AllBrokersDown {
            self.note(kind, reason);
        }
        let told = self.trouble().map(|trouble| trouble.reason);
        let mut waiting = lock(&self.0.waiting);
        // One broker of several may go; only when the last one has, nothing can be done any more.
        let down = code == RDKafkaErrorCode::AllBrokersDown || waiting.brokers.is_some();
        if down && rank(kind) > 0 {
            if waiting.brokers.is_none() {
                self.0.outages.fetch_add(1, Ordering::Relaxed);
            }
            waiting.brokers = Some(told.unwrap_or_else(|| unreachable(&self.0.servers, None)));
            self.publish(&waiting);
        }
    }

    fn note(&self, kind: Kind, reason: &str) {
        let reason = cleaned(reason);
        if !self.is_repeat("error", &reason) {
            warn!(target: "librdkafka", class = kind.class(), reason, "client error");
        }
        let mut trouble = lock(&self.0.trouble);
        // A refused password also closes the connection; the first of the two says more.
        let known = trouble.as_ref().is_some_and(|known| rank(known.kind) > rank(kind));
        if !known && rank(kind) > 0 {
            *trouble = Some(Trouble { kind, reason });
        }
    }

    fn is_repeat(&self, facility: &str, message: &str) -> bool {
        let now = Instant::now();
        let mut lines = lock(&self.0.lines);
        let key = format!("{facility} {}", without_digits(message));
        if lines.get(&key).is_some_and(|last| now.duration_since(*last) < REPEAT) {
            return true;
        }
        if lines.len() >= LINES_MAX {
            lines.retain(|_, last| now.duration_since(*last) < REPEAT);
        }
        if lines.len() < LINES_MAX {
            lines.insert(key, now);
        }
        false
    }
}

impl Trouble {
    fn told(&self, servers: &str) -> String {
        let reason = &self.reason;
        match self.kind {
            Kind::Authentication => format!(
                "authentication refused: {reason}; see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and \
                 KAFKA_SASL_MECHANISM"
            ),
            Kind::Tls => format!(
                "TLS connection failed: {reason}; see KAFKA_SSL_CA_LOCATION and KAFKA_SECURITY_PROTOCOL"
            ),
            Kind::Resolve => {
                format!("host name not found: {reason}; see KAFKA_BOOTSTRAP_SERVERS")
            }
            Kind::Unreachable | Kind::TimedOut => unreachable(servers, Some(reason)),
            Kind::Configuration
            | Kind::Permission
            | Kind::UnknownTopic
            | Kind::OutOfRange
            | Kind::Unstable
            | Kind::Replaced
            | Kind::Fenced
            | Kind::TooLarge
            | Kind::Metadata
            | Kind::Other => reason.clone(),
        }
    }
}

fn unreachable(servers: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("no broker reachable at {servers}: {reason}"),
        None => format!("no broker reachable at {servers}"),
    }
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Authentication => 4,
        Kind::Tls => 3,
        Kind::Resolve => 2,
        Kind::Unreachable => 1,
        Kind::Configuration
        | Kind::Permission
        | Kind::UnknownTopic
        | Kind::TimedOut
        | Kind::OutOfRange
        | Kind::Unstable
        | Kind::Replaced
        | Kind::Fenced
        | Kind::TooLarge
        | Kind::Metadata
        | Kind::Other => 0,
    }
}

/// Returns a reason without what changes from one attempt to the next: which of the broker's names and addresses was
/// tried, after how long, and how many times before.
pub(super) fn cleaned(reason: &str) -> String {
    let mut reason = reason.split(" (after ").next().unwrap_or(reason);
    // "sasl_ssl://host:9093/bootstrap: …", "TxnCoordinator: host:9092: …"
    while let Some((from, rest)) = reason.split_once(": ")
        && !from.contains(' ')
    {
        reason = rest;
    }
    if let Some((_, cause)) =
        reason.strip_prefix("Connect to ").and_then(|rest| rest.split_once(" failed: "))
    {
        reason = cause;
    }
    reason.trim().trim_end_matches('.').to_owned()
}

fn without_digits(message: &str) -> String {
    message.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
