use std::time::Duration;

use tokio::time::{advance, pause};

use super::logs::logged;
use super::*;

#[test]
fn a_component_is_ready_only_after_it_says_so() {
    let health = Health::default();
    assert!(health.readyz().ok);

    let kafka = health.component("kafka");
    assert_eq!(health.readyz().reasons(), "kafka: starting");
    kafka.waiting("no broker answers");
    assert_eq!(health.readyz().reasons(), "kafka: no broker answers");
    kafka.ready();
    assert!(health.readyz().ok);
    health.component("kafka").progress("12 of 50");
    assert_eq!(health.readyz().reasons(), "kafka: 12 of 50");

    assert_eq!(health.readyz().checks.len(), 2);
    assert!(health.livez().ok);
}

#[test]
fn draining_ends_readiness_and_not_life() {
    let health = Health::default();
    let changes = health.changes();

    health.draining();

    assert_eq!(health.readyz().reasons(), "shutdown: draining");
    assert!(health.is_draining() && health.livez().ok);
    assert!(changes.has_changed().unwrap());
}

#[tokio::test]
async fn life_ends_when_the_heart_is_silent_for_more_than_thirty_seconds() {
    pause();
    let health = Health::default();
    advance(Duration::from_secs(100)).await;
    assert!(health.livez().ok, "the first beat is yet to come");

    health.beat();
    advance(Duration::from_secs(30)).await;
    assert!(health.livez().ok);
    advance(Duration::from_millis(1)).await;
    assert_eq!(health.livez().reasons(), "heartbeat: no heartbeat for 30 s, the limit is 30 s");

    health.beat();
    assert!(health.livez().ok);
}

#[test]
fn a_wait_is_logged_once_for_each_new_reason() {
    let lines = logged(|| {
        let kafka = Health::default().component("kafka");
        for reason in ["no broker", "no broker", "no topic", "no topic"] {
            kafka.waiting(reason);
        }
        kafka.ready();
        kafka.ready();
        kafka.progress("1 of 9");
        kafka.progress("2 of 9");
    });

    let told: Vec<_> = lines.iter().map(|line| (&line["level"], &line["reason"])).collect();
    let none = serde_json::Value::Null;
    assert_eq!(
        told,
        [
            (&"WARN".into(), &"no broker".into()),
            (&"WARN".into(), &"no topic".into()),
            (&"INFO".into(), &none),
            (&"INFO".into(), &"1 of 9".into()),
        ]
    );
}
