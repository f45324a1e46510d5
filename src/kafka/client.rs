//! From the configuration to librdkafka's: one function per kind of client.
//!
//! What is set here is set for a reason that was measured; docs/configuration.md lists what an operator may add.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use secrecy::ExposeSecret;

use super::{Config, GroupProtocol, identity::Identity};

/// What a fetch asks of one partition at most; a larger record still comes, alone.
const FETCH_PARTITION_MAX: u64 = 1024 * 1024;

/// What a fetch asks of all partitions of a broker at most.
const FETCH_MAX: u64 = 16 * 1024 * 1024;

/// The sizes that the producer is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerSizes {
    /// The smallest `max.message.bytes` of the topics it writes to.
    pub(crate) smallest: usize,
    /// The largest.
    pub(crate) largest: usize,
}

/// Returns what every client has in common: where the brokers are, and how to get in.
fn common(config: &Config, identity: &Identity) -> ClientConfig {
    // The process may end while librdkafka's threads are still within TLS. OpenSSL would take its tables away from them
    // at the exit, and that was a crash in one of fifty; initialised by this, it leaves them.
    openssl_sys::init();
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Info);
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", format!("weir-{}", identity.instance()))
        // A broker that restarts is back within seconds; by librdkafka's default of 10 s each of its disconnects costs
        // a transaction that long.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Offsets behind a pending transaction are polled for at this pace: 13 ms late instead of 113.
        .set("retry.backoff.ms", "10")
        .set("retry.backoff.max.ms", "100")
        .set("socket.keepalive.enable", "true")
        .set("security.protocol", config.security_protocol.as_str());
    if config.security_protocol.is_sasl() {
        client.set("sasl.mechanism", config.sasl_mechanism.as_str());
        set(&mut client, "sasl.username", config.sasl_username.as_deref());
        set(
            &mut client,
            "sasl.password",
            config.sasl_password.as_ref().map(ExposeSecret::expose_secret),
        );
    }
    if config.security_protocol.is_tls() {
        set(&mut client, "ssl.ca.location", config.ssl_ca_location.as_deref());
        set(&mut client, "ssl.certificate.location", config.ssl_certificate_location.as_deref());
        set(&mut client, "ssl.key.location", config.ssl_key_location.as_deref());
        set(
            &mut client,
            "ssl.key.password",
            config.ssl_key_password.as_ref().map(ExposeSecret::expose_secret),
        );
    }
    client
}

/// Returns the configuration of the group's member.
pub(super) fn member(config: &Config, identity: &Identity) -> ClientConfig {
    let mut client = reading(config, identity);
    client
        // Uncommitted records of a transactional feed are not events yet; and offsets of an open transaction are waited
        // for instead of overlooked.
        .set("isolation.level", "read_committed")
        // A position outside of the log is an alarm for source to raise, not a jump that nobody sees.
        .set("auto.offset.reset", "error")
        .set("max.poll.interval.ms", millis(config.max_poll_interval()))
        // Per partition, for each has its own queue.
        .set("queued.max.messages.kbytes", (config.prefetch.as_u64() / 1024).to_string())
        .set("queued.min.messages", "1000")
        // By the default of 1000 a partition whose queue was full once rests for a second.
        .set("fetch.queue.backoff.ms", "20")
        .set(
            "fetch.message.max.bytes",
            config.prefetch.as_u64().min(FETCH_PARTITION_MAX).to_string(),
        )
        .set("fetch.max.bytes", FETCH_MAX.to_string())
        .set("check.crcs", "true")
        .set("statistics.interval.ms", "10000");
    match config.group_protocol {
        GroupProtocol::Classic => {
            let session = config.session_timeout;
            client
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", millis(session))
                .set("heartbeat.interval.ms", millis((session / 4).min(Duration::from_secs(3))));
            if config.static_membership {
                client.set("group.instance.id", identity.instance());
            }
        }
        // Session and heartbeat are the broker's there, and librdkafka refuses them. A group.instance.id would lock a
        // killed process out for the whole session.
        GroupProtocol::Consumer => {
            client.set("group.protocol", "consumer");
        }
    }
    add(client, &[&config.properties.common, &config.properties.consumer])
}

/// Returns the configuration of a client that reads the group's committed offsets, and the journal, without being a
/// member. What an operator hands through for the consumer is meant for the member, and may not fit here.
pub(crate) fn reader(config: &Config, identity: &Identity) -> ClientConfig {
    let mut client = reading(config, identity);
    client
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        // Only the end of the journal waits for it: 75 ms instead of 504 for four partitions.
        .set("fetch.wait.max.ms", "20")
        .set("queued.max.messages.kbytes", "4096")
        // By the default of 1000 a partition whose queue was full once rests for a second: a journal of a million
        // records took 26 s instead of 3.
        .set("fetch.queue.backoff.ms", "5");
    add(client, &[&config.properties.common])
}

/// Returns the configuration of a client that asks for a log's true end: a read_committed one would be told the last
/// stable offset instead.
pub(crate) fn watermarks(config: &Config, identity: &Identity) -> ClientConfig {
    let mut client = common(config, identity);
    client.set("isolation.level", "read_uncommitted");
    add(client, &[&config.properties.common])
}

/// Returns the configuration of a client that reads topics from a position on, as weir's clients do. It has the group's
/// name because librdkafka assigns nothing without one, and never joins.
pub(super) fn tail(config: &Config, identity: &Identity) -> ClientConfig {
    let mut client = reading(config, identity);
    client
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        // The mock cluster holds a fetch back for as long as it may, whether something comes or not.
        .set("fetch.wait.max.ms", "50")
        .set("queued.max.messages.kbytes", "4096")
        .set("fetch.queue.backoff.ms", "20");
    add(client, &[&config.properties.common])
}

/// Returns the configuration of the client that has a mock cluster inside.
pub(super) fn mock() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Warning).set("test.mock.num.brokers", "1");
    client
}

/// Returns the configuration of a client that asks for and creates topics.
pub(super) fn admin(config: &Config, identity: &Identity) -> ClientConfig {
    add(common(config, identity), &[&config.properties.common])
}

/// Returns the configuration of the producer; without a transactional id it is a plain idempotent one.
pub(crate) fn producer(
    config: &Config,
    identity: &Identity,
    transactional_id: Option<&str>,
    sizes: ProducerSizes,
) -> ClientConfig {
    let mut client = common(config, identity);
    let transaction = config.transaction_timeout;
    client
        .set("enable.idempotence", "true")
        // Group commit gathers batches already; waiting for more of them only adds to every transaction.
        .set("linger.ms", "0")
        // A record must have failed before its transaction does.
        .set("message.timeout.ms", millis(transaction * 8 / 10))
        .set("socket.timeout.ms", millis((transaction / 2).clamp(ONE, TEN)))
        // librdkafka never splits a batch, and one that is over the topic's limit fails with all that is in it.
        .set("batch.size", sizes.smallest.saturating_sub(BATCH_FRAMING).max(1).to_string())
        .set("message.max.bytes", sizes.largest.clamp(1_000, 1_000_000_000).to_string())
        // One batch is in the queue at a time: room for two of the largest, and their framing.
        .set(
            "queue.buffering.max.kbytes",
            (config.transaction_max_bytes.as_u64() / 512 + 65_536).min(2_097_151).to_string(),
        )
        .set(
            "queue.buffering.max.messages",
            config.transaction_max_records.saturating_mul(4).clamp(100_000, 10_000_000).to_string(),
        )
        // As Java's clients: results of one key are where their consumers look for them.
        .set("partitioner", "murmur2_random")
        // None: the original's clients read zstd, lz4 and snappy only with an extra package, and batches of one to
        // twenty-five results, as group commit makes them, gain little. KAFKA_PRODUCER_PROP_COMPRESSION_CODEC sets one.
        .set("compression.codec", "none");
    if let Some(id) = transactional_id {
        client.set("transactional.id", id).set("transaction.timeout.ms", millis(transaction));
    }
    add(client, &[&config.properties.common, &config.properties.producer])
}

/// What a produce request adds to the records of its batch, generously.
const BATCH_FRAMING: usize = 512;

const ONE: Duration = Duration::from_secs(1);
const TEN: Duration = Duration::from_secs(10);

/// Returns what the readers of the group have in common.
fn reading(config: &Config, identity: &Identity) -> ClientConfig {
    let mut client = common(config, identity);
    client
        .set("group.id", &config.consumer_group_id)
        // Offsets are committed in transactions, by nobody else.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("socket.timeout.ms", "10000");
    client
}

fn set(client: &mut ClientConfig, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        client.set(name, value);
    }
}

fn add(mut client: ClientConfig, properties: &[&BTreeMap<String, String>]) -> ClientConfig {
    for (name, value) in properties.iter().copied().flatten() {
        client.set(name, value);
    }
    client
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
