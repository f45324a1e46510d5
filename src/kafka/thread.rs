//! Runs librdkafka's blocking calls where nobody has to wait for them.
//!
//! Not on the runtime's blocking pool: a runtime waits for that pool when it ends, and a call into librdkafka may take
//! as long as the broker likes.

use std::thread::Builder;

use tokio::sync::oneshot;
use tracing::error;

/// Runs `work` on a thread of its own and returns what it returns; `None` when the work panicked.
///
/// Stopping to wait does not stop the work: what it returns is then dropped on its own thread.
pub(crate) async fn run<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, result) = oneshot::channel();
    detach(name, move || {
        // Nobody waits any more: the result is dropped here, on this thread.
        drop(sender.send(work()));
    });
    result.await.ok()
}

/// Lets go of clients on a thread of its own: closing one blocks.
pub(crate) fn close<T: Send + 'static>(clients: T) {
    detach("kafka-close", move || drop(clients));
}

/// Runs `work` on a thread of its own, for which nobody waits.
pub(crate) fn detach(name: &'static str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = Builder::new().name(name.to_owned()).spawn(work) {
        error!(name, %error, "start a thread");
    }
}
