//! What weir has to know about Kafka: where it is, who we are there, and the limits of a transaction.
//!
//! One variable per field: `KAFKA_` and the field's name in upper case.
//! rdkafka's `KafkaError::ClientConfig` displays the *value* of the property that it refuses, so its
//! text goes to no log before [`Config::is_secret_property`] was asked about the property's name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use secrecy::SecretString;
use serde::Deserialize;

/// How weir reads and writes Kafka.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The brokers asked first, as `host:port[,host:port]`; any one of them leads to the others.
    ///
    /// Default `localhost:9092`, as the original. With one name only, that broker must be up when weir
    /// starts; it waits until it is.
    pub bootstrap_servers: String,
    /// The consumer group whose members share the events.
    ///
    /// Default `langgraph-consumer-group`, as the original, so that weir goes on where it stopped.
    /// Another name is another reader: it starts where [`auto_offset_reset`](Self::auto_offset_reset)
    /// says, and answers events that the first group has answered.
    pub consumer_group_id: String,
    /// The topic that events are read from. Default `workflow-events`.
    pub workflow_events_topic: String,
    /// The topic that results go to, one per event. Default `workflow-results`.
    pub workflow_results_topic: String,
    /// The topic that dead letters go to, one per event that did not succeed. Default
    /// `workflow-events-dlq`.
    pub dlq_topic: String,
    /// The topic that holds the effects of unfinished runs; internal to weir. Default `workflow-journal`.
    ///
    /// It needs as many partitions as the events topic, and belongs to one group: two groups on one
    /// journal would read each other's effects.
    pub journal_topic: String,
    /// Has no effect. Default `false`.
    ///
    /// The original's deployments set it. weir commits an offset in the transaction that makes its
    /// result visible, never by a timer, and warns when this asks for one.
    pub enable_auto_commit: bool,
    /// Where a group begins that has committed no offset on any partition. Default `latest`, as the
    /// original: events from before the first start are not answered. `earliest` answers them all.
    pub auto_offset_reset: AutoOffsetReset,
    /// How the connection is protected. Default `plaintext`, as the original: for a trusted network only.
    pub security_protocol: SecurityProtocol,
    /// How weir proves who it is, when the protocol is one of the two SASL ones. Default
    /// `SCRAM-SHA-512`, which sends no password; `PLAIN` sends it as it is and belongs inside TLS.
    pub sasl_mechanism: SaslMechanism,
    /// The SASL user name. Default none.
    pub sasl_username: Option<String>,
    /// The SASL password. Default none.
    pub sasl_password: Option<SecretString>,
    /// The certificates to trust, a PEM file or a directory of them; `probe` looks in the system's usual
    /// places. Default none: OpenSSL's own choice.
    pub ssl_ca_location: Option<String>,
    /// The PEM file with the certificate that weir shows to the broker. Default none.
    pub ssl_certificate_location: Option<String>,
    /// The PEM file with the private key of that certificate. Default none.
    pub ssl_key_location: Option<String>,
    /// The password of that private key. Default none.
    pub ssl_key_password: Option<SecretString>,
    /// How long the group waits for a silent member before it gives its partitions away. Default `10s`.
    ///
    /// From 6 s to 30 min, the broker's own default bounds. Shorter: a pause of the machine costs a
    /// rebalance. Longer: after a crash the partitions rest for that long. The `consumer` group protocol
    /// takes the broker's setting (45 s) instead.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// How long the runs of a revoked partition may go on before they are cancelled. Default `2s`.
    ///
    /// While it lasts nothing is fetched for any partition of this instance. Zero cancels at once; the
    /// next owner resumes the runs from the journal, so little is lost but a call in flight. Near its
    /// maximum of 30 s each rebalance stalls the instance for that long.
    #[serde(with = "humantime_serde")]
    pub revoke_grace: Duration,
    /// Whether the instance keeps its membership over a restart. Default `false`.
    ///
    /// `true` makes a bounce free of rebalances, but a member that stops for good keeps its partitions
    /// until the session ends: for StatefulSets, with the classic protocol only.
    pub static_membership: bool,
    /// How the group agrees on who reads what. Default `classic`, which every broker speaks.
    pub group_protocol: GroupProtocol,
    /// What to do with offsets whose metadata was not written by weir. Default `fail`: the partition
    /// stops with an error. `ignore` goes on from the committed offset, and answers a second time what
    /// was answered above it.
    pub foreign_metadata: ForeignMetadata,
    /// Whether weir creates the topics that are missing. Default `true`; where the principal may not,
    /// or topics are managed elsewhere, `false` makes weir wait for them.
    pub create_topics: bool,
    /// After how long the broker aborts a transaction that its producer left open. Default `10s`.
    ///
    /// From 2 s to 15 min, the broker's default maximum. A broker that pauses for longer than this
    /// costs a rebuild of the producer; a crashed instance that does not come back stalls the readers of
    /// the results for this and up to 10 s more.
    #[serde(with = "humantime_serde")]
    pub transaction_timeout: Duration,
    /// The most records in one transaction. Default `10000`, from 1 to 100,000.
    ///
    /// 1 commits each result by itself, at a few hundred per second. Far more than the default makes
    /// one transaction last so long that the results in it come late.
    pub transaction_max_records: usize,
    /// The most bytes in one transaction. Default `8MiB`, from 64 KiB to 256 MiB. A larger record still
    /// goes, alone.
    ///
    /// This much is held twice, by weir and by librdkafka's queue.
    pub transaction_max_bytes: ByteSize,
    /// How long after one another transactions begin where much happens. Default `60ms`, from 0 to 1 s.
    ///
    /// That is, where effects and results come at more than 3,000 a second; and none waits for more
    /// than 900 of them. `0` commits as often as the broker can, which costs it and weir about as much
    /// as a few hundred records each time.
    #[serde(with = "humantime_serde")]
    pub transaction_spacing: Duration,
    /// What librdkafka may read ahead, per partition. Default `1MiB`, from 64 KiB to 64 MiB.
    ///
    /// Small values cost a round trip per fetch, large ones memory: an instance may own every partition.
    pub prefetch: ByteSize,
    /// librdkafka properties handed through as they are.
    #[serde(skip)]
    pub properties: Properties,
}

/// librdkafka properties from `KAFKA_PROP_*`, `KAFKA_CONSUMER_PROP_*` and `KAFKA_PRODUCER_PROP_*`, by
/// librdkafka's name (`socket.timeout.ms`). None of them is one that weir sets itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// For every client; set before those of one side.
    pub common: BTreeMap<String, String>,
    /// For the consumer alone.
    pub consumer: BTreeMap<String, String>,
    /// For the producer alone.
    pub producer: BTreeMap<String, String>,
}

/// Where a group without any committed offset begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoOffsetReset {
    /// At the end: only what comes from now on.
    Latest,
    /// At the beginning: all that the topic still holds.
    Earliest,
}

/// How a connection to a broker is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS; the client's certificate, when it has one, says who it is.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL inside TLS.
    SaslSsl,
}

/// How a SASL client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    /// The password as it is.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response over SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response over SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// How the members of a group agree on who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// One member assigns, cooperatively and stickily.
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

/// What to do with an offset's metadata that weir did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignMetadata {
    /// Stop the partition with an error.
    Fail,
    /// Go on from the committed offset.
    Ignore,
}

impl Config {
    /// Returns whether the value of the librdkafka property `name` may be shown to nobody.
    ///
    /// Decided by the name alone, and rather too often than once too few.
    #[must_use]
    pub fn is_secret_property(name: &str) -> bool {
        const MARKS: [&str; 6] =
            ["password", "secret", "token", "key", "pem", "oauthbearer.config"];
        let name = name.to_ascii_lowercase();
        !name.ends_with(".location") && MARKS.iter().any(|mark| name.contains(mark))
    }

    /// Returns how long a member may go without a poll, or hold a rebalance up, before the group goes on
    /// without it: `max.poll.interval.ms`.
    ///
    /// A revocation may last the revoke grace and a transaction, twice over when one had just begun, and
    /// librdkafka takes no value below the session time-out. Otherwise one minute, not Kafka's five: weir polls whatever
    /// its runs do, and so long a group waits for members that its broker remembers after a restart and nobody is any
    /// more (seen: a lone broker that was killed did not let their sessions end).
    #[must_use]
    pub fn max_poll_interval(&self) -> Duration {
        let revocation = self.revoke_grace.saturating_add(self.transaction_timeout);
        Duration::from_mins(1).max(self.session_timeout).max(revocation.saturating_mul(2))
    }
}

impl SecurityProtocol {
    /// Returns librdkafka's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    /// Returns whether the client authenticates by SASL.
    #[must_use]
    pub fn is_sasl(self) -> bool {
        match self {
            Self::SaslPlaintext | Self::SaslSsl => true,
            Self::Plaintext | Self::Ssl => false,
        }
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        match self {
            Self::Ssl | Self::SaslSsl => true,
            Self::Plaintext | Self::SaslPlaintext => false,
        }
    }
}

impl SaslMechanism {
    /// Returns librdkafka's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl GroupProtocol {
    /// Returns librdkafka's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            consumer_group_id: "langgraph-consumer-group".to_owned(),
            workflow_events_topic: "workflow-events".to_owned(),
            workflow_results_topic: "workflow-results".to_owned(),
            dlq_topic: "workflow-events-dlq".to_owned(),
            journal_topic: "workflow-journal".to_owned(),
            enable_auto_commit: false,
            auto_offset_reset: AutoOffsetReset::Latest,
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: SaslMechanism::ScramSha512,
            sasl_username: None,
            sasl_password: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password: None,
            session_timeout: Duration::from_secs(10),
            revoke_grace: Duration::from_secs(2),
            static_membership: false,
            group_protocol: GroupProtocol::Classic,
            foreign_metadata: ForeignMetadata::Fail,
            create_topics: true,
            transaction_timeout: Duration::from_secs(10),
            transaction_max_records: 10_000,
            transaction_max_bytes: ByteSize::mib(8),
            transaction_spacing: Duration::from_millis(60),
            prefetch: ByteSize::mib(1),
            properties: Properties::default(),
        }
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |properties: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let value = |name: &str, value: &str| match Config::is_secret_property(name) {
                true => "[redacted]".to_owned(),
                false => value.to_owned(),
            };
            properties.iter().map(|(name, text)| (name.clone(), value(name, text))).collect()
        };
        f.debug_struct("Properties")
            .field("common", &shown(&self.common))
            .field("consumer", &shown(&self.consumer))
            .field("producer", &shown(&self.producer))
            .finish()
    }
}
