//! librdkafka properties handed through.

use super::super::property;
use super::*;

#[test]
fn librdkafka_properties_go_through_by_their_own_names() {
    let check = |name: &str, expected: Option<&str>| {
        assert_eq!(property::decode(name).as_deref(), expected, "{name}");
    };
    check("SOCKET_TIMEOUT_MS", Some("socket.timeout.ms"));
    check("A__B___C_D", Some("a_b-c.d"));
    check("socket_timeout_ms", Some("socket.timeout.ms"));
    for wrong in ["", "_", "_A", "A_", "A____B", "___"] {
        check(wrong, None);
    }

    let properties = loaded(&[
        ("KAFKA_PROP_SOCKET_KEEPALIVE_ENABLE", "true"),
        ("KAFKA_CONSUMER_PROP_FETCH_WAIT_MAX_MS", "100"),
        ("KAFKA_PRODUCER_PROP_COMPRESSION_TYPE", "zstd"),
        ("KAFKA_PRODUCER_PROP_LINGER_MS", ""),
    ])
    .kafka
    .properties;

    let one = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    assert_eq!(properties.common, one("socket.keepalive.enable", "true"));
    assert_eq!(properties.consumer, one("fetch.wait.max.ms", "100"));
    assert_eq!(properties.producer, one("compression.type", "zstd"));
}

#[test]
fn librdkafka_properties_that_weir_sets_are_refused() {
    for name in property::OWNED.iter().flat_map(|(names, _)| *names) {
        let encoded = name.replace('_', "__").replace('.', "_").to_uppercase();
        for (prefix, _) in property::PREFIXES {
            let variable = format!("{prefix}{encoded}");
            check_refused(&[(&variable, "x")], &[&format!("{variable}=")]);
        }
    }
    assert_eq!(
        problems(&[("KAFKA_PROP_GROUP_ID", "x")]),
        ["KAFKA_PROP_GROUP_ID=\"x\" names group.id, which weir sets itself; \
          set KAFKA_CONSUMER_GROUP_ID instead"]
    );
    check_refused(&[("KAFKA_PROP__X", "x")], &["KAFKA_PROP__X names no librdkafka property"]);
    check_refused(
        &[("KAFKA_PROP_DEBUG", "all"), ("KAFKA_PROP_debug", "all")],
        &["KAFKA_PROP_debug=\"all\" names debug, as another variable does"],
    );
}
