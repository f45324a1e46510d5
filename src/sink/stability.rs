//! Watches for transactions that the broker has forgotten to end.
//!
//! A lone broker that is killed within a commit may, after its restart, take the transaction for ended without having
//! written its markers. The commit was answered well, and yet readers of the results see nothing from there on. Nobody
//! is told: so, at the start and whenever the brokers were away, this looks whether the last stable offset of every
//! partition that weir writes comes to where the log ended then. It never writes.

use std::collections::BTreeMap;
use std::thread::park_timeout;
use std::time::Duration;

use rdkafka::{
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::{
    kafka::{self, Config, Error, Identity, Plain, Reporter, longest_transaction, thread},
    telemetry::{Component, Metrics},
};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(3);

/// How often it is looked whether the brokers were away.
const LOOK: Duration = Duration::from_secs(1);

/// A partition of a topic that weir writes.
type Place = (String, i32);

/// The watch over the results, the dead letters and the journal.
pub struct Stability {
    /// The way to Kafka, and the names of the topics.
    pub config: Config,
    /// Who this process is.
    pub identity: Identity,
    /// Knows when the brokers were away.
    pub reporter: Reporter,
    /// Says that a transaction hangs, for as long as it does.
    pub health: Component,
    /// Counts the partitions that are held up.
    pub metrics: Metrics,
}

/// The clients that are asked. Closing them blocks, so they never die on the runtime.
struct Clients {
    /// Is told the last stable offset as a log's end.
    stable: BaseConsumer<Plain>,
    /// Is told the log's true end.
    true_ends: BaseConsumer<Plain>,
}

/// What one round of looking is about.
struct Round {
    /// Where each log ended when it began, of those that are not stable up to there.
    open: BTreeMap<Place, i64>,
    /// Since when the brokers have been answering.
    since: Instant,
    /// How many partitions have been told of.
    told: usize,
}

impl Stability {
    /// Begins to watch on a thread of its own, until `stop`.
    pub fn start(self, stop: CancellationToken) {
        self.health.ready();
        thread::detach("kafka-stability", move || self.run(&stop));
    }

    fn run(self, stop: &CancellationToken) {
        let mut seen = None;
        let mut clients = None;
        while !stop.is_cancelled() {
            let outages = self.reporter.outages();
            if seen != Some(outages) && !self.reporter.is_unreachable() {
                match self.round(&mut clients, stop) {
                    Ok(()) => seen = Some(outages),
                    // The brokers are away again, or a topic is: it is looked once more. Nobody polls the clients, so
                    // that they have lost their brokers for good would not be known.
                    Err(error) => {
                        debug!(%error, "look for transactions that hang");
                        thread::close(clients.take());
                    }
                }
            }
            park_timeout(LOOK);
        }
    }

    /// Looks until everything that is written now is stable.
    fn round(&self, clients: &mut Option<Clients>, stop: &CancellationToken) -> Result<(), Error> {
        let clients = match clients {
            Some(clients) => clients,
            None => clients.insert(self.clients()?),
        };
        let mut round = Round { open: self.ends(clients)?, since: Instant::now(), told: 0 };
        let outcome = self.until_stable(clients, &mut round, stop);
        if round.told > 0 {
            self.tell(&mut round, 0);
            self.health.ready();
            info!("no transaction hangs any more");
        }
        outcome
    }

    fn until_stable(
        &self,
        clients: &mut Clients,
        round: &mut Round,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let longest = longest_transaction(&self.config);
        while !stop.is_cancelled() {
            if self.reporter.is_unreachable() {
                round.since = Instant::now();
            } else if let Err(error) = clients.take_stable(&mut round.open) {
                // Told already, it is told until it is known to be over.
                if round.told == 0 {
                    return Err(error);
                }
                if let Ok(anew) = self.clients() {
                    thread::close(std::mem::replace(clients, anew));
                }
            }
            if round.open.is_empty() {
                return Ok(());
            }
            let waited = round.since.elapsed();
            if waited >= longest && round.told != round.open.len() {
                self.alarm(round, waited);
            }
            park_timeout(LOOK);
        }
        Ok(())
    }

    fn alarm(&self, round: &mut Round, waited: Duration) {
        let Some(((topic, partition), end)) = round.open.first_key_value() else { return };
        let (more, hint) = (round.open.len() - 1, kafka::hanging_hint(waited, &self.config));
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let reason = format!(
            "readers of partition {partition} of {topic}{more} are held up before offset {end}{hint}"
        );
        if round.told == 0 {
            error!(reason, "a transaction hangs");
        }
        self.health.waiting(reason);
        let open = round.open.len();
        self.tell(round, open);
    }

    fn tell(&self, round: &mut Round, partitions: usize) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.hanging(gauge(partitions) - gauge(round.told));
        round.told = partitions;
    }

    fn clients(&self) -> Result<Clients, Error> {
        let Self { config, identity, reporter, .. } = self;
        let native = kafka::watermarks(config, identity);
        let true_ends = BaseConsumer::from_config_and_context(&native, Plain::new(reporter))?;
        Ok(Clients { stable: kafka::reader(config, identity, reporter)?, true_ends })
    }

    /// Returns where the logs end now.
    fn ends(&self, clients: &Clients) -> Result<BTreeMap<Place, i64>, Error> {
        let config = &self.config;
        let mut ends = BTreeMap::new();
        for topic in [&config.workflow_results_topic, &config.dlq_topic, &config.journal_topic] {
            let metadata = clients.true_ends.fetch_metadata(Some(topic), QUESTION)?;
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                let (_, end) =
                    clients.true_ends.fetch_watermarks(topic, partition.id(), QUESTION)?;
                ends.insert((topic.clone(), partition.id()), end);
            }
        }
        Ok(ends)
    }
}

impl Clients {
    /// Takes out what is stable up to the end that it had.
    fn take_stable(&self, open: &mut BTreeMap<Place, i64>) -> Result<(), Error> {
        let mut stable = Vec::new();
        for (place, end) in open.iter() {
            let (topic, partition) = place;
            let (_, now) = self.stable.fetch_watermarks(topic, *partition, QUESTION)?;
            if now >= *end {
                stable.push(place.clone());
            }
        }
        open.retain(|place, _| !stable.contains(place));
        Ok(())
    }
}
