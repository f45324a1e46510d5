//! Any bytes are an event or a refusal, and either way a dead letter that fits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use weir::event::{DeadLetter, Defaults, Origin, Original, Timestamp, decode};
use weir::record::{Offset, PartitionId};

const LIMIT: usize = 2048;

fuzz_target!(|value: &[u8]| {
    let defaults = Defaults { event_id: Uuid::nil(), timestamp: Timestamp::UNIX_EPOCH };
    match decode(Some(value), || defaults) {
        Ok(event) => {
            let text = event.normal_text();
            let again =
                decode(Some(text.as_bytes()), || defaults).expect("a normal form is an event");
            assert_eq!(again.normal_text(), text);
            assert_eq!(again.task(), event.task());
            fits(Original::Event(&event), "");
        }
        Err(invalid) => {
            let message = invalid.to_string();
            assert!(message.len() < 1024);
            fits(Original::Refused { value: Some(value), ids: &invalid.ids }, &message);
        }
    }
});

fn fits(original: Original<'_>, message: &str) {
    let origin =
        Origin { topic: "t", partition: PartitionId(0), offset: Offset(0), timestamp_ms: None };
    let (id, timestamp) = (Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
    let letter =
        DeadLetter { id, timestamp, origin, original, class: "event.schema", message, attempts: 0 };
    assert!(letter.encode(LIMIT).len() <= LIMIT);
}
