use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::retry::Disposition;

use super::{writer::Fencings, *};

#[test]
fn three_fencings_within_a_minute_are_a_twins_doing() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut fencings = Fencings::default();

    assert!(!fencings.note(at(0)));
    assert!(!fencings.note(at(59)));
    // The first one is a minute old by now.
    assert!(!fencings.note(at(60)));
    assert!(fencings.note(at(61)));
}

#[test]
fn a_records_size_counts_what_the_topics_limit_counts() {
    let record = Outgoing {
        topic: Topic::Results,
        partition: None,
        key: Some(Bytes::from_static(b"key")),
        value: Bytes::from_static(b"value"),
        headers: vec![("name".to_owned(), Bytes::from_static(b"x"))],
    };

    assert_eq!(record.size(), 3 + 5 + 4 + 1 + 10);
}

#[test]
fn errors_that_an_operator_can_heal_are_tried_again() {
    let reason = || "why".to_owned();
    let again = [
        Error::Delivery { topic: Topic::Results, reason: reason() },
        Error::Replaced { reason: reason() },
        Error::Metadata { reason: reason() },
        Error::Permission { reason: reason() },
        Error::Broker { reason: reason() },
        Error::Fenced { reason: reason() },
    ];
    let stop = [
        Error::Configuration { reason: reason() },
        Error::Twin { transactional_id: "weir-g-a".to_owned() },
        Error::Closed,
    ];

    for error in again {
        assert_eq!(error.disposition(), Disposition::Retry { after: None }, "{error}");
    }
    for error in stop {
        assert_eq!(error.disposition(), Disposition::Stop, "{error}");
    }
}
