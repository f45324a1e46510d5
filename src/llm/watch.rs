//! Asks the endpoint now and then whether it is there, for `/readyz` and for the gate.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::Error;

/// The first wait after an endpoint that did not answer; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest wait until an endpoint that did not answer is asked again.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The wait until an endpoint that answered is asked again.
const REST: Duration = Duration::from_secs(15);

/// Whether the endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// It does.
    Ready,
    /// It does not, for this reason.
    Waiting(String),
}

impl Client {
    /// Returns a task that asks the endpoint whether it is there and tells `on_state` each time, until `cancel`.
    ///
    /// From this call on, and until the endpoint has answered once, calls wait, at most `LLM_START_TIMEOUT` from
    /// the client's making. Any HTTP status is an answer. When the task ends, nothing waits any more.
    pub fn watch<F>(
        &self,
        cancel: CancellationToken,
        mut on_state: F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: FnMut(Reachability) + Send + 'static,
    {
        let keeper = Keeper::shut(self.clone());
        async move {
            let asking = async {
                let mut retry = RETRY_FIRST;
                loop {
                    let pause = match keeper.0.probe().await {
                        Ok(()) => {
                            keeper.0.gate().open();
                            on_state(Reachability::Ready);
                            retry = RETRY_FIRST;
                            REST
                        }
                        Err(Error { endpoint, fault }) => {
                            on_state(Reachability::Waiting(format!("{endpoint}: {fault}")));
                            let pause = retry;
                            retry = (retry * 2).min(RETRY_MAX);
                            pause
                        }
                    };
                    sleep(pause).await;
                }
            };
            cancel.run_until_cancelled(asking).await.unwrap_or(())
        }
    }
}

/// Opens the gate when nobody watches any more.
struct Keeper(Client);

impl Keeper {
    fn shut(client: Client) -> Self {
        client.gate().shut();
        Self(client)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.gate().open();
    }
}
