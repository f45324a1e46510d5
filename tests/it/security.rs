//! TLS, SASL and permissions on the real broker: what works, and one clear line for each thing that doesn't.

use serde_json::json;
use uuid::Uuid;

use crate::support::kafka::{World, produce, seen, until};
use crate::support::process::Environment;

pub(crate) fn variable(name: &str) -> String {
    std::env::var_os(name)
        .and_then(|value| value.into_string().ok())
        .unwrap_or_else(|| panic!("{name} is not set: run the tests by tests/run"))
}

pub(crate) fn secured(world: &World) -> Environment {
    Environment::of(world)
        .set("KAFKA_BOOTSTRAP_SERVERS", &variable("WEIR_TEST_KAFKA_SASL"))
        .set("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
        .set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        .set("KAFKA_SASL_USERNAME", &variable("WEIR_TEST_KAFKA_USER"))
        .set("KAFKA_SASL_PASSWORD", &variable("WEIR_TEST_KAFKA_PASSWORD"))
        .set("KAFKA_SSL_CA_LOCATION", &variable("WEIR_TEST_KAFKA_CA"))
        .set("OLLAMA_BASE_URL", "http://127.0.0.1:1")
        .set("LLM_START_TIMEOUT", "1s")
}

#[tokio::test]
async fn events_are_answered_over_sasl_ssl() {
    let world = World::new("secured", 1).await;
    let mut weir = secured(&world).start();
    weir.waits_for("llm").await;
    let event = json!({
        "event_id": Uuid::new_v4(), "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
        "workflow_run_id": "r", "payload": {"data": {"task": "list"}}, "metadata": {"environment": "dev"},
    });

    produce(world.events(), 0, &event.to_string()).await;

    until("a result", || seen(&world.config.workflow_results_topic).len() == 1).await;
}

/// Starts with `name` set to `value` and waits for the reason; it stands in one line of the log, without the secret.
async fn check(world: &World, (name, value): (&str, &str), reason: &str) {
    let mut weir = secured(world).set(name, value).start();

    weir.waits_for(reason).await;

    let log = weir.log();
    let lines = log.lines().filter(|line| line.contains(reason)).count();
    assert!((1..=2).contains(&lines), "{lines} lines say {reason:?}:\n{log}");
    assert!(!log.contains(&variable("WEIR_TEST_KAFKA_PASSWORD")), "the password is in the log");
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let world = World::new("password", 1).await;

    check(&world, ("KAFKA_SASL_PASSWORD", "wrong-secret"), "KAFKA_SASL_PASSWORD").await;
}

#[tokio::test]
async fn a_wrong_ca_is_named() {
    let world = World::new("ca", 1).await;

    check(
        &world,
        ("KAFKA_SSL_CA_LOCATION", &variable("WEIR_TEST_KAFKA_OTHER_CA")),
        "KAFKA_SSL_CA_LOCATION",
    )
    .await;
}

#[tokio::test]
async fn an_unknown_topic_is_named() {
    let world = World::new("topic", 1).await;

    check(&world, ("KAFKA_WORKFLOW_EVENTS_TOPIC", "nobody-made-this"), "nobody-made-this").await;
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = World::new("denied", 1).await;
    let mut weir = secured(&world)
        .set("KAFKA_SASL_USERNAME", &variable("WEIR_TEST_KAFKA_DENIED_USER"))
        .set("KAFKA_SASL_PASSWORD", &variable("WEIR_TEST_KAFKA_DENIED_PASSWORD"))
        .start();

    weir.waits_for("permission denied").await;

    assert!(weir.log().contains(world.events()), "{}", weir.log());
}
