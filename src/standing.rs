//! Whether this process may still spend for its group: one that stood still may have been replaced without knowing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::failpoint::{self, Mechanism};

/// What the dispatch knows of that, for those who are about to ask a model. Clones know the same.
#[derive(Debug, Clone)]
pub struct Standing {
    silence_max: Duration,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the dispatch last looked at the world; `None` before it began.
    turned: Option<Instant>,
    confirmed: bool,
}

impl Standing {
    /// Returns the standing of a process that may have been replaced when it stood still for `silence_max`.
    #[must_use]
    pub fn new(silence_max: Duration) -> Self {
        let state = State { turned: None, confirmed: true };
        Self { silence_max, state: Arc::new(watch::Sender::new(state)) }
    }

    /// Notes that the dispatch looks at the world, and returns for how long it had not, if that was too long.
    pub fn turn(&self) -> Option<Duration> {
        let mut silent = None;
        self.state.send_if_modified(|state| {
            // Read here, so that whoever found it late before waits for a confirmation, and not for ever.
            let now = Instant::now();
            let before = state.turned.replace(now);
            silent = before.map(|before| now.saturating_duration_since(before));
            silent = silent.filter(|silent| *silent >= self.silence_max && is_watched());
            state.confirmed &= silent.is_none();
            false
        });
        silent
    }

    /// Notes whether the group has confirmed that we are a member.
    pub fn note(&self, confirmed: bool) {
        self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.confirmed, confirmed) != confirmed
        });
    }

    /// Says whether nothing tells that we may have been replaced.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed_by(*self.state.borrow())
    }

    /// Waits until nothing tells that we may have been replaced. Who wakes before the dispatch waits for it.
    pub async fn confirmed(&self) {
        let mut state = self.state.subscribe();
        // We hold the sender, so it can't have gone.
        drop(state.wait_for(|state| self.is_confirmed_by(*state)).await);
    }

    fn is_confirmed_by(&self, State { turned, confirmed }: State) -> bool {
        let is_late = turned.is_some_and(|turned| turned.elapsed() >= self.silence_max);
        confirmed && !(is_late && is_watched())
    }
}

fn is_watched() -> bool {
    !failpoint::is_off(Mechanism::Doubt)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const MAX: Duration = Duration::from_secs(6);
    const REST: Duration = Duration::from_millis(1);

    async fn waits(standing: &Standing) -> bool {
        tokio::time::timeout(REST / 2, standing.confirmed()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_the_dispatch_turns() {
        let standing = Standing::new(MAX);
        sleep(2 * MAX).await;
        assert!(!waits(&standing).await, "it has not begun");
        assert_eq!(standing.turn(), None);
        sleep(MAX - REST).await;
        assert!(!waits(&standing).await);
        assert_eq!(standing.turn(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_wakes_before_the_dispatch_waits_until_the_group_has_confirmed_us() {
        let standing = Standing::new(MAX);
        standing.turn();
        sleep(MAX).await;
        let mut call = Box::pin(standing.confirmed());
        assert!(futures_util::poll!(call.as_mut()).is_pending());

        assert!(standing.turn().is_some_and(|silent| silent >= MAX));
        standing.note(false);
        assert!(futures_util::poll!(call.as_mut()).is_pending());
        standing.note(true);

        assert!(futures_util::poll!(call.as_mut()).is_ready());
        assert!(!waits(&standing).await);
    }
}
