use std::ffi::CString;
use std::time::Duration;

use rdkafka::{
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    types::RDKafkaConfRes,
};
use secrecy::SecretString;
use tokio::time::{Instant, advance};

use crate::telemetry::Health;

use super::{client, report::cleaned, *};

fn config() -> Config {
    Config { bootstrap_servers: "kafka:9092".to_owned(), ..Config::default() }
}

fn sizes() -> ProducerSizes {
    ProducerSizes { smallest: 20_000, largest: 1_048_588 }
}

#[test]
fn slots_of_a_host_are_given_in_order_and_freed_by_whoever_held_them() {
    let host = format!("host-{}", std::process::id());
    let first = Identity::on_host("group", &host).unwrap();
    let second = Identity::on_host("group", &host).unwrap();
    let other_group = Identity::on_host("another", &host).unwrap();

    assert_eq!(first.instance(), format!("{host}-0"));
    assert_eq!(second.instance(), format!("{host}-1"));
    assert_eq!(other_group.instance(), format!("{host}-0"));
    drop(first);
    let again = Identity::on_host("group", &host).unwrap();
    assert_eq!(again.transactional_id(), format!("weir-group-{host}-0"));
}

#[test]
fn long_names_hold_a_slot_as_well() {
    let host = format!("{}-{}", "h".repeat(250), std::process::id());
    let group = "g".repeat(249);

    let first = Identity::on_host(&group, &host).unwrap();
    let second = Identity::on_host(&group, &host).unwrap();

    assert!(first.instance().ends_with("-0"));
    assert!(second.instance().ends_with("-1"));
}

#[test]
fn librdkafka_takes_every_clients_configuration() {
    let mut config = config();
    let identity = Identity::named("group", "a");
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        for static_membership in [false, true] {
            for timeout in [2, 10, 900] {
                config.group_protocol = protocol;
                config.static_membership = static_membership;
                config.transaction_timeout = Duration::from_secs(timeout);

                let id = Some("id");
                for client in [
                    client::member(&config, &identity),
                    client::reader(&config, &identity),
                    watermarks(&config, &identity),
                    client::admin(&config, &identity),
                    producer(&config, &identity, id, sizes()),
                    producer(&config, &identity, None, sizes()),
                ] {
                    client.create_native_config().unwrap();
                }
            }
        }
    }
}

#[test]
fn a_static_member_has_a_name_in_the_classic_protocol_only() {
    let identity = Identity::named("group", "a");
    let config = Config { static_membership: true, ..config() };
    let broker_assigns = Config { group_protocol: GroupProtocol::Consumer, ..config.clone() };

    assert_eq!(client::member(&config, &identity).get("group.instance.id"), Some("a"));
    assert_eq!(client::member(&broker_assigns, &identity).get("group.instance.id"), None);
}

#[test]
fn the_way_in_goes_to_every_client_and_what_is_handed_through_comes_last() {
    let mut config = config();
    config.security_protocol = SecurityProtocol::SaslSsl;
    config.sasl_username = Some("me".to_owned());
    config.sasl_password = Some(SecretString::from("secret"));
    config.ssl_ca_location = Some("/ca.pem".to_owned());
    config.properties.common.insert("socket.timeout.ms".to_owned(), "1234".to_owned());
    config.properties.producer.insert("compression.codec".to_owned(), "zstd".to_owned());
    let identity = Identity::named("group", "a");

    let made = producer(&config, &identity, Some("id"), sizes());
    let joining = client::member(&config, &identity);

    for client in [&made, &joining] {
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(client.get("sasl.password"), Some("secret"));
        assert_eq!(client.get("ssl.ca.location"), Some("/ca.pem"));
        assert_eq!(client.get("socket.timeout.ms"), Some("1234"));
    }
    assert_eq!(made.get("compression.codec"), Some("zstd"));
    assert_eq!(joining.get("compression.codec"), None);
}

#[test]
fn a_batch_stays_below_the_smallest_topics_limit() {
    let identity = Identity::named("group", "a");

    let made = producer(&config(), &identity, Some("id"), sizes());

    assert_eq!(made.get("batch.size"), Some("19488"));
    assert_eq!(made.get("message.max.bytes"), Some("1048588"));
}

#[test]
fn no_error_shows_a_secret_propertys_value() {
    let refused = |name: &str| {
        Error::from(KafkaError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"hunter2\" for it".to_owned(),
            name.to_owned(),
            "hunter2".to_owned(),
        ))
    };

    let (secret, open) = (refused("sasl.password"), refused("session.timeout.ms"));

    assert_eq!(secret.kind, Kind::Configuration);
    assert!(!secret.to_string().contains("hunter2"), "{secret}");
    assert!(secret.to_string().contains("sasl.password"), "{secret}");
    assert!(open.to_string().contains("hunter2"), "{open}");
}

#[test]
fn codes_are_sorted_by_what_they_ask_for() {
    use crate::retry::Disposition;

    for (code, kind) in [
        (Code::AllBrokersDown, Kind::Unreachable),
        (Code::SaslAuthenticationFailed, Kind::Authentication),
        (Code::SSL, Kind::Tls),
        (Code::GroupAuthorizationFailed, Kind::Permission),
        (Code::IllegalGeneration, Kind::Replaced),
        (Code::Fenced, Kind::Fenced),
        (Code::InvalidProducerEpoch, Kind::Fenced),
        (Code::MessageSizeTooLarge, Kind::TooLarge),
        (Code::OffsetMetadataTooLarge, Kind::Metadata),
        (Code::OutOfOrderSequenceNumber, Kind::Other),
    ] {
        assert_eq!(Kind::of(code), kind, "{code:?}");
    }
    assert_eq!(Kind::Unreachable.disposition(), Disposition::Retry { after: None });
    assert_eq!(Kind::Configuration.disposition(), Disposition::Stop);
}

#[test]
fn reasons_lose_what_changes_from_one_attempt_to_the_next() {
    let check = |reason: &str, expected: &str| assert_eq!(cleaned(reason), expected);

    check(
        "127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT, 3 \
         identical error(s) suppressed)",
        "Connection refused",
    );
    check(
        "sasl_ssl://b:9093/bootstrap: SASL authentication error: Authentication failed (after 301ms in state AUTH_REQ)",
        "SASL authentication error: Authentication failed",
    );
    check(
        "kafka.invalid:9092/bootstrap: Failed to resolve 'kafka.invalid:9092': Name or service not known (after 5ms in \
         state CONNECT)",
        "Failed to resolve 'kafka.invalid:9092': Name or service not known",
    );
    check(
        "TxnCoordinator: 127.0.0.1:9: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state \
         CONNECT)",
        "Connection refused",
    );
    check(
        "ssl://b:9093/1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
         certificate could not be verified (after 7ms in state SSL_HANDSHAKE)",
        "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be \
         verified",
    );
    check("1/1 brokers are down", "1/1 brokers are down");
}

#[tokio::test]
async fn trouble_is_told_once_with_what_to_do_and_taken_back() {
    let health = Health::default();
    let reporter = Reporter::new("kafka:9093", health.component("kafka"));
    reporter.ready();
    let refused = KafkaError::Global(Code::Authentication);
    let closed = KafkaError::Global(Code::BrokerTransportFailure);

    reporter.error(
        &refused,
        "sasl_ssl://kafka:9093/1: SASL authentication error: no (after 3ms in state AUTH)",
    );
    assert!(health.readyz().ok, "other brokers may take us");
    reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
    reporter.error(&closed, "sasl_ssl://kafka:9093/1: Disconnected (after 7ms in state AUTH)");
    let reason = health.readyz().reasons();
    reporter.up();

    assert_eq!(
        reason,
        "kafka: authentication refused: SASL authentication error: no; see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and \
         KAFKA_SASL_MECHANISM"
    );
    assert!(health.readyz().ok);
    assert_eq!(reporter.trouble(), None);
}

#[tokio::test]
async fn a_step_that_waits_is_not_ready_because_a_broker_answers() {
    let health = Health::default();
    let reporter = Reporter::new("kafka:9092", health.component("kafka"));
    reporter.waiting("the producer is not ready: permission");
    reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");

    reporter.up();
    let reason = health.readyz().reasons();
    reporter.ready();

    assert_eq!(reason, "kafka: the producer is not ready: permission");
    assert!(health.readyz().ok);
}

#[test]
fn a_log_line_of_any_level_is_taken() {
    let reporter = Reporter::new("kafka:9092", Health::default().component("kafka"));

    for level in [RDKafkaLogLevel::Emerg, RDKafkaLogLevel::Warning, RDKafkaLogLevel::Debug] {
        reporter.log(level, "FACILITY", "a line of 1");
        reporter.log(level, "FACILITY", "a line of 2");
    }
}

#[test]
fn positions_that_come_with_bytes_of_others_are_read_as_bytes() {
    let list = position_list(
        "topic",
        &[(crate::record::PartitionId(3), crate::record::Offset(7), "ours\u{e9}")],
    )
    .unwrap();

    let lines = lines(&list);

    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].partition, lines[0].offset), (3, 7));
    assert_eq!(lines[0].metadata, "ours\u{e9}".as_bytes());
    assert_eq!(CString::new(lines[0].metadata.clone()).unwrap().as_bytes().len(), 6);
    assert_eq!(lines[0].error, None);
}

#[test]
fn nothing_hangs_before_the_longest_transaction_has_ended() {
    let config = config();

    assert_eq!(hanging_hint(Duration::from_secs(24), &config), "");
    assert!(hanging_hint(Duration::from_secs(27), &config).contains("(20 s)"));
    assert!(hanging_hint(Duration::from_secs(27), &config).contains("find-hanging"));
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_counted_from_when_the_brokers_answer() {
    let health = Health::default();
    let reporter = Reporter::new("kafka:9092", health.component("kafka"));
    let mut pending = Pending::default();
    let mut note = |kind| pending.note(&Error::new(kind, "why"), &reporter, Instant::now());
    let second = Duration::from_secs(1);

    assert_eq!(note(Kind::TimedOut), Duration::ZERO);
    advance(second).await;
    assert_eq!(note(Kind::Unstable), second);
    assert_eq!(note(Kind::Unreachable), Duration::ZERO, "another reason");
    advance(second).await;
    assert_eq!(note(Kind::Unstable), Duration::ZERO);
    advance(second).await;
    reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
    assert_eq!(note(Kind::TimedOut), Duration::ZERO, "no broker is there");
    assert_eq!(reporter.outages(), 1);
}
