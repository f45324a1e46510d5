//! Begins anew with the configured brokers where librdkafka has forgotten to.
//!
//! Since 2.10 it lets go of every broker that the metadata do not name. A broker that stood still for longer than its
//! session with the controller lasts names nobody for a moment, not even itself, so a lone one is let go; then the client
//! is to begin anew with the brokers that it was configured with. At times it never does: the very answer that cost it
//! its last broker also stops the timer by which they come back, and no other is started (2.12.1,
//! `rd_kafka_handle_Metadata`). Such a client asks nobody, for ever, and says nothing of it: a consumer remains the member
//! that it was, a producer aborts one transaction after the other.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use rdkafka::{
    client::{Client, ClientContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::time::Instant;
use tracing::debug;

use crate::failpoint::{self, Mechanism};

use super::native;

/// How long after the last word of lost brokers they are named again. A client that is refused still says so every
/// second, as long as it tries.
const QUIET: Duration = Duration::from_secs(2);

/// What a client's context remembers of its brokers.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    servers: String,
    /// When librdkafka last said that none is left.
    lost: Mutex<Option<Instant>>,
    was_lost: AtomicBool,
}

/// A context that remembers it.
pub(crate) trait Bootstrapped: ClientContext {
    /// Returns what it remembers.
    fn bootstrap(&self) -> &Bootstrap;
}

impl Bootstrap {
    /// Begins with the brokers `servers`, as in `bootstrap.servers`.
    pub(crate) fn new(servers: &str) -> Self {
        let was_lost = AtomicBool::new(false);
        Self { servers: servers.to_owned(), lost: Mutex::default(), was_lost }
    }

    /// Takes note of an error of the client.
    pub(crate) fn note(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.lost() = Some(Instant::now());
            self.was_lost.store(true, Ordering::Relaxed);
        }
    }

    /// Says whether the client has ever lost all of its brokers.
    pub(crate) fn was_lost(&self) -> bool {
        self.was_lost.load(Ordering::Relaxed)
    }

    /// Says, once, that the client has been quiet for long enough since it lost its brokers.
    fn take_due(&self, now: Instant) -> bool {
        self.lost().take_if(|lost| now.saturating_duration_since(*lost) >= QUIET).is_some()
    }

    /// Takes it that the brokers are lost by now, if not before.
    fn suspect(&self) {
        self.lost().get_or_insert_with(Instant::now);
    }

    fn lost(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the brokers to a client again that has said that all of them are lost; for any other it does nothing. To be
/// called every second or so by whoever waits for something from a client.
///
/// Where librdkafka has begun anew by itself, or a broker is just away, it knows them twice until the next metadata.
pub(crate) fn rebootstrap<C: Bootstrapped>(client: &Client<C>) {
    let bootstrap = client.context().bootstrap();
    if bootstrap.take_due(Instant::now()) && !failpoint::is_off(Mechanism::Rebootstrap) {
        debug!(servers = bootstrap.servers, "begin anew with the configured brokers");
        if !native::add_brokers(client, &bootstrap.servers) {
            bootstrap.suspect();
        }
    }
}

/// Does the same for a client that has been waited for in vain for a while. One that lost its brokers twice may say
/// nothing of the second time.
pub(crate) fn rebootstrap_late<C: Bootstrapped>(client: &Client<C>) {
    client.context().bootstrap().suspect();
    rebootstrap(client);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: KafkaError = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);

    #[tokio::test(start_paused = true)]
    async fn brokers_are_named_again_once_when_it_has_been_quiet_since_they_were_lost() {
        let bootstrap = Bootstrap::new("kafka:9092");
        bootstrap.note(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure));
        assert!(!bootstrap.take_due(Instant::now() + QUIET), "one of several went");
        assert!(!bootstrap.was_lost());
        bootstrap.note(&DOWN);
        assert!(!bootstrap.take_due(Instant::now()), "it may be trying still");
        tokio::time::advance(QUIET / 2).await;
        bootstrap.note(&DOWN);
        tokio::time::advance(QUIET / 2).await;

        assert!(!bootstrap.take_due(Instant::now()), "it is trying still");

        tokio::time::advance(QUIET / 2).await;
        assert!(bootstrap.take_due(Instant::now()));
        assert!(!bootstrap.take_due(Instant::now()), "once");
        assert!(bootstrap.was_lost());
        bootstrap.suspect();
        tokio::time::advance(QUIET / 2).await;
        bootstrap.suspect();
        tokio::time::advance(QUIET / 2).await;
        assert!(bootstrap.take_due(Instant::now()), "waited for in vain");
    }
}
