//! Asks the endpoints now and then whether they are there, for `/readyz`, for the start and for those that rest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::error::{Error, Fault, Phase};

/// The first wait after an endpoint that did not answer; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest wait until an endpoint that did not answer is asked again.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long an endpoint that rests may take to answer, and how long it is then left alone: traffic is to be back soon
/// after it has recovered.
const TRIAL: Duration = Duration::from_millis(1500);
/// The wait until an endpoint that answered is asked again.
const REST: Duration = Duration::from_secs(15);

/// Whether any endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// All do.
    Ready,
    /// Some do; these don't, for these reasons.
    Partly(String),
    /// None does, for these reasons.
    Waiting(String),
}

impl Client {
    /// Returns a task that asks every endpoint whether it is there and tells `on_state` each time, until `cancel`.
    ///
    /// From this call on, and until an endpoint has answered once, calls wait, at most `LLM_START_TIMEOUT` from
    /// the client's making. Any HTTP status is an answer. When the task ends, nothing waits any more.
    pub fn watch<F>(
        &self,
        cancel: CancellationToken,
        on_state: F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: FnMut(Reachability) + Send + 'static,
    {
        let keeper = Keeper::shut(self.clone());
        async move {
            let views = keeper.0.endpoints();
            let answers = views.iter().map(|_| None).collect();
            let news = Mutex::new(News { answers, on_state });
            let places = keeper.0.desks().flat_map(|desk| 0..desk.pool.doors().len());
            let asking = views.iter().zip(places).enumerate();
            let news = &news;
            let asking = asking.map(|(number, (view, place))| {
                view.ask_on(place, move |answer| {
                    let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
                    news.take(number, answer);
                })
            });
            cancel.run_until_cancelled(join_all(asking)).await;
        }
    }

    /// Asks the endpoint that this handle looks at for ever.
    async fn ask_on(&self, place: usize, tell: impl Fn(Result<(), Error>)) {
        let Some(desk) = self.desks().find(|desk| desk.pool.provider == self.provider()) else {
            return;
        };
        let mut retry = RETRY_FIRST;
        loop {
            let is_resting = desk.pool.is_resting(place);
            let probed = if is_resting {
                timeout(TRIAL, self.probe()).await.unwrap_or_else(|_| {
                    Err(self.fail(Fault::Timeout { phase: Phase::FirstByte, after: TRIAL }))
                })
            } else {
                self.probe().await
            };
            desk.pool.heard(place, probed.is_ok());
            let pause = if probed.is_ok() {
                desk.pool.open();
                desk.pool.look(place).await;
                retry = RETRY_FIRST;
                if is_resting { TRIAL } else { REST }
            } else {
                let pause = if is_resting { TRIAL } else { retry };
                retry = (retry * 2).min(RETRY_MAX);
                pause
            };
            tell(probed);
            if timeout(pause, desk.pool.news(place)).await.is_ok() {
                sleep(RETRY_FIRST).await;
            }
        }
    }
}

/// What the endpoints last answered.
struct News<F> {
    answers: Vec<Option<Result<(), Arc<str>>>>,
    on_state: F,
}

impl<F> News<F>
where
    F: FnMut(Reachability),
{
    fn take(&mut self, number: usize, answer: Result<(), Error>) {
        let answer =
            answer.map_err(|Error { endpoint, fault, .. }| format!("{endpoint}: {fault}").into());
        if let Some(last) = self.answers.get_mut(number) {
            *last = Some(answer);
        }
        let answers = self.answers.iter().flatten();
        let faults: Vec<&str> = answers.filter_map(|a| Some(&**a.as_ref().err()?)).collect();
        let is_there = self.answers.iter().flatten().any(Result::is_ok);
        (self.on_state)(match (is_there, faults.is_empty()) {
            (true, true) => Reachability::Ready,
            (true, false) => Reachability::Partly(faults.join("; ")),
            (false, _) => Reachability::Waiting(faults.join("; ")),
        });
    }
}

/// Lets everybody through when nobody watches any more.
struct Keeper(Client);

impl Keeper {
    fn shut(client: Client) -> Self {
        let opens = client.opens();
        client.desks().for_each(|desk| desk.pool.shut(opens));
        Self(client)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.desks().for_each(|desk| desk.pool.open());
    }
}
