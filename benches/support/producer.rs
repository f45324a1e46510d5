//! A producer that knows what of its records is delivered.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use super::broker::PATIENCE;
use super::process::pause;

/// Sends records, and waits for their deliveries where a transaction's end would otherwise: `commit_transaction` by
/// itself looks only every 100 ms whether they are there.
pub(crate) struct Producer {
    native: ThreadedProducer<Deliveries>,
    sent: Cell<u64>,
    delivered: Arc<Delivered>,
}

#[derive(Default)]
struct Delivered {
    count: Mutex<u64>,
    more: Condvar,
}

struct Deliveries(Arc<Delivered>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // One that failed is not counted: whoever waits for it says so.
        if result.is_ok() {
            *self.0.count.lock().unwrap() += 1;
            self.0.more.notify_one();
        }
    }
}

impl Producer {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        let delivered = Arc::<Delivered>::default();
        let context = Deliveries(Arc::clone(&delivered));
        let native = ThreadedProducer::from_config_and_context(config, context).unwrap();
        Self { native, sent: Cell::new(0), delivered }
    }

    /// Hands a record over, waiting while the queue is full.
    pub(crate) fn send<K, V>(&self, mut record: BaseRecord<'_, K, V>)
    where
        K: ToBytes + ?Sized,
        V: ToBytes + ?Sized,
    {
        self.sent.set(self.sent.get() + 1);
        loop {
            match self.native.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    pause(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("produce: {error}"),
            }
        }
    }

    /// Waits until all that was sent is delivered.
    pub(crate) fn deliver(&self) {
        let count = self.delivered.count.lock().unwrap();
        let missing = |count: &mut u64| *count < self.sent.get();
        let (count, late) =
            self.delivered.more.wait_timeout_while(count, PATIENCE, missing).unwrap();
        assert!(!late.timed_out(), "{} of {} records delivered", *count, self.sent.get());
    }

    pub(crate) fn init(&self) {
        self.native.init_transactions(PATIENCE).unwrap();
    }

    pub(crate) fn begin(&self) {
        self.native.begin_transaction().unwrap();
    }

    /// Commits the transaction, with these offsets of this member where there are any.
    pub(crate) fn commit(
        &self,
        offsets: Option<(&TopicPartitionList, &rdkafka::consumer::ConsumerGroupMetadata)>,
    ) {
        self.deliver();
        if let Some((list, group)) = offsets {
            self.native.send_offsets_to_transaction(list, group, PATIENCE).unwrap();
        }
        self.native.commit_transaction(PATIENCE).unwrap();
    }
}
