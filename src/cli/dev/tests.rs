use serde_json::json;

use crate::agents::AgentUpdate;
use crate::event::{Defaults, decode};
use crate::record::{Epoch, Offset, PartitionId, Position, Record};

use super::samples::samples;
use super::watch::{cut, written};
use super::*;

#[test]
fn the_samples_are_events_but_for_the_one_that_is_to_be_refused() {
    let samples = samples(jiff::Timestamp::now());
    let accepted: Vec<_> = samples
        .iter()
        .map(|sample| {
            let record = Record {
                position: Position {
                    partition: PartitionId(0),
                    offset: Offset(0),
                    epoch: Epoch(0),
                },
                timestamp_ms: None,
                key: None,
                value: Some(sample.event.clone().into()),
                deadline: None,
            };
            let defaults = || Defaults::of("workflow-events", &record);
            decode(record.value.as_deref(), defaults).map_err(|invalid| invalid.ids.event_id)
        })
        .map(|decoded| decoded.map(|event| event.event_id))
        .collect();

    let ids: Vec<_> = samples.iter().map(|sample| sample.id).collect();
    assert_eq!(accepted, [Ok(ids[0]), Ok(ids[1]), Ok(ids[2]), Err(Some(ids[3]))]);
}

#[test]
fn an_update_is_told_field_by_field_and_in_one_line() {
    let update = AgentUpdate {
        agent_results: json!({ "data": { "agent": "data", "result": "two\nlines" } })
            .as_object()
            .cloned(),
        metadata: json!({ "llm_metadata": {} }).as_object().cloned(),
        completed: Some(true),
        current_agent: Some("end".into()),
        ..AgentUpdate::default()
    };

    assert_eq!(
        written(&update),
        "data = \"two lines\", metadata.llm_metadata, completed, next: end"
    );
    assert_eq!(written(&AgentUpdate::default()), "");
    assert_eq!(cut("12345", 5), "12345");
    assert_eq!(cut("\u{e9}23456", 5), "\u{e9}2345\u{2026}");
}

fn load_for(arguments: &Arguments, vars: &[(&str, &str)]) -> Config {
    let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
    settings(arguments, vars).unwrap()
}

#[test]
fn a_trial_reads_of_kafka_only_what_means_the_same_there() {
    let arguments = Arguments { once: true, timeout: Duration::ZERO, port: PORT };
    let config = load_for(
        &arguments,
        &[
            ("KAFKA_BOOTSTRAP_SERVERS", "production:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "ssl"),
            ("KAFKA_DLQ_TOPIC", "letters"),
            ("KAFKA_PROP_DEBUG", "all"),
            ("DELIVERY_GUARANTEE", "exactly_once"),
            ("WORKFLOW_RESULT_MIN_AGE", "3s"),
        ],
    );

    assert_eq!(config.kafka.bootstrap_servers, "localhost:9092");
    assert!(!config.kafka.security_protocol.is_tls());
    assert_eq!(config.kafka.dlq_topic, "letters");
    assert!(config.kafka.properties.common.is_empty());
    assert_eq!(config.dispatch.delivery_guarantee, DeliveryGuarantee::AtLeastOnce);
    assert_eq!(config.dispatch.result_min_age, Duration::from_secs(3));
    assert_eq!((config.admin.addr, config.service.shutdown_grace), (None, GRACE));
}

#[test]
fn a_trial_that_stays_up_answers_http_on_a_port_that_is_free() {
    let arguments = Arguments { once: false, timeout: Duration::ZERO, port: PORT };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();

    let chosen = load_for(&arguments, &[]).admin.addr.unwrap();
    let told = load_for(&arguments, &[("HTTP_ADDR", &taken.to_string())]).admin.addr;

    assert!(chosen.ip().is_loopback() && chosen.port() != 0, "{chosen}");
    assert_eq!(told, Some(taken));
    assert_eq!(load_for(&arguments, &[("HTTP_ADDR", "off")]).admin.addr, None);
}
