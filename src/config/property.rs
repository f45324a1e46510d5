//! librdkafka properties handed through: their names, and those that weir keeps for itself.

/// Which client a property is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Common,
    Consumer,
    Producer,
}

/// What a variable's name begins with.
pub(super) const PREFIXES: [(&str, Side); 3] = [
    ("KAFKA_PROP_", Side::Common),
    ("KAFKA_CONSUMER_PROP_", Side::Consumer),
    ("KAFKA_PRODUCER_PROP_", Side::Producer),
];

/// Properties that weir sets itself, and what to do instead.
pub(super) static OWNED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "set KAFKA_BOOTSTRAP_SERVERS instead"),
    (&["group.id"], "set KAFKA_CONSUMER_GROUP_ID instead"),
    (&["group.instance.id"], "set KAFKA_STATIC_MEMBERSHIP and INSTANCE_ID instead"),
    (&["transactional.id"], "set INSTANCE_ID instead"),
    (
        &["transaction.timeout.ms", "message.timeout.ms", "delivery.timeout.ms"],
        "set KAFKA_TRANSACTION_TIMEOUT instead",
    ),
    (
        &["enable.idempotence", "acks", "request.required.acks"],
        "set DELIVERY_GUARANTEE instead; the producer is idempotent in both modes",
    ),
    (
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "isolation.level",
        ],
        "remove it: offsets are committed with the results that they belong to",
    ),
    (&["auto.offset.reset"], "set KAFKA_AUTO_OFFSET_RESET instead"),
    (&["session.timeout.ms"], "set KAFKA_SESSION_TIMEOUT instead"),
    (&["max.poll.interval.ms"], "set KAFKA_REVOKE_GRACE and KAFKA_TRANSACTION_TIMEOUT instead"),
    (
        &["group.protocol", "partition.assignment.strategy", "group.remote.assignor"],
        "set KAFKA_GROUP_PROTOCOL instead",
    ),
    (&["queued.max.messages.kbytes"], "set KAFKA_PREFETCH instead"),
    (&["allow.auto.create.topics"], "set KAFKA_CREATE_TOPICS instead"),
    (&["security.protocol"], "set KAFKA_SECURITY_PROTOCOL instead"),
    (&["sasl.mechanism", "sasl.mechanisms"], "set KAFKA_SASL_MECHANISM instead"),
    (&["sasl.username"], "set KAFKA_SASL_USERNAME instead"),
    (&["sasl.password"], "set KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE instead"),
    (&["ssl.ca.location"], "set KAFKA_SSL_CA_LOCATION instead"),
    (&["ssl.certificate.location"], "set KAFKA_SSL_CERTIFICATE_LOCATION instead"),
    (&["ssl.key.location"], "set KAFKA_SSL_KEY_LOCATION instead"),
    (&["ssl.key.password"], "set KAFKA_SSL_KEY_PASSWORD or KAFKA_SSL_KEY_PASSWORD_FILE instead"),
    (
        &["enable.partition.eof", "statistics.interval.ms"],
        "remove it: weir reads its position and its lag from it",
    ),
    (&["test.mock.num.brokers"], "use `weir dev` for a broker in memory"),
];

/// Returns the side and the rest of the name, when `variable` hands a property through.
pub(super) fn split(variable: &str) -> Option<(Side, &str)> {
    PREFIXES.iter().find_map(|(prefix, side)| Some((*side, variable.strip_prefix(prefix)?)))
}

/// Returns librdkafka's name for `name`, which is what follows the prefix of a variable.
///
/// By the rule of Apache Kafka's own image: `_` is a dot, `__` an underscore, `___` a hyphen.
pub(super) fn decode(name: &str) -> Option<String> {
    let mut property = String::with_capacity(name.len());
    let mut parts = name.split('_').peekable();
    let mut underscores = 0;
    while let Some(part) = parts.next() {
        if !part.is_empty() {
            match underscores {
                0 => {}
                1 => property.push('.'),
                2 => property.push('_'),
                3 => property.push('-'),
                _ => return None,
            }
            property.push_str(&part.to_ascii_lowercase());
            underscores = 0;
        }
        if parts.peek().is_some() {
            underscores += 1;
        }
    }
    let whole = underscores == 0 && !name.starts_with('_') && !property.is_empty();
    whole.then_some(property)
}

/// Returns what to do instead of setting the property `name`, when weir sets it itself.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| *instead)
}
