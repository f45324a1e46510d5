//! What weir tells systemd: that it is up, what it is doing, that it lives, and that it needs time to end.
//!
//! Does nothing where no service manager listens. A broker that is down must not fail the boot, so weir reports itself
//! started when it is ready or after a few seconds, and says in its status what it waits for.

use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::telemetry::{Health, Metrics};

/// How long systemd may wait for readiness before it is told that weir is up all the same.
const START_MAX: Duration = Duration::from_secs(5);

/// How often the status is told anew.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How much time each extension asks for. It is asked for again long before it is over.
const EXTENSION: Duration = Duration::from_secs(20);

/// Keeps systemd informed until `end`.
///
/// Watchdog pings come at half the time that systemd allows, and only while the process lives: a wedged process is
/// killed and restarted. The same holds for the extensions of the stop time-out while draining.
pub async fn notify(health: Health, metrics: Metrics, end: impl Future<Output = ()>) {
    let mut failed = false;
    let tell = |states: &[NotifyState<'_>]| {
        if let Err(error) = sd_notify::notify(states)
            && !failed
        {
            failed = true;
            warn!(%error, "systemd does not listen");
        }
    };
    notify_with(tell, sd_notify::watchdog_enabled(), (health, metrics), end).await;
}

async fn notify_with(
    mut tell: impl FnMut(&[NotifyState<'_>]),
    watchdog: Option<Duration>,
    (health, metrics): (Health, Metrics),
    end: impl Future<Output = ()>,
) {
    let mut end = pin!(end);
    let mut changes = health.changes();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 2).min(STATUS_EVERY));
    let up_by = Instant::now() + START_MAX;
    let (mut up, mut stopping) = (false, false);
    let mut said = String::new();
    loop {
        let (readyz, alive) = (health.readyz(), health.livez().ok);
        if !up && (readyz.ok || Instant::now() >= up_by) {
            up = true;
            tell(&[NotifyState::Ready]);
        }
        if health.is_draining() {
            if !stopping {
                stopping = true;
                tell(&[NotifyState::Stopping]);
            }
            if alive {
                tell(&[NotifyState::ExtendTimeoutUsec(micros(EXTENSION))]);
            }
        }
        let status = match (stopping, readyz.ok) {
            (true, _) => format!("draining: {}", metrics.summary()),
            (false, true) => metrics.summary(),
            (false, false) => format!("waiting for {}", readyz.reasons()),
        };
        // A status is one line: what comes after a line break would be taken for a notification.
        let status = status.replace(['\n', '\r'], " ");
        if status != said {
            tell(&[NotifyState::Status(&status)]);
            said = status;
        }
        if watchdog.is_some() && alive {
            tell(&[NotifyState::Watchdog]);
        }
        let turn = Instant::now() + every;
        let turn = if up { turn } else { turn.min(up_by) };
        // Biased: nothing is to be told any more once the end has come.
        tokio::select! {
            biased;
            () = &mut end => return,
            // The sender lives in `health`, which is held here.
            _ = changes.changed() => {}
            () = sleep_until(turn) => {}
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    /// What systemd was told, each with its second.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<(u64, String)>>>);

    impl Told {
        fn seconds_of(&self, what: &str) -> Vec<u64> {
            let told = self.0.lock().unwrap();
            told.iter().filter(|(_, text)| text == what).map(|(second, _)| *second).collect()
        }
    }

    fn start(watchdog: Option<Duration>) -> (Health, Told, JoinSet<()>) {
        let (health, told, mut tasks) = (Health::default(), Told::default(), JoinSet::new());
        let (begun, log) = (Instant::now(), told.clone());
        let tell = move |states: &[NotifyState<'_>]| {
            let second = begun.elapsed().as_secs();
            log.0.lock().unwrap().extend(states.iter().map(|state| (second, state.to_string())));
        };
        let watched = (health.clone(), Metrics::default());
        tasks.spawn(notify_with(tell, watchdog, watched, std::future::pending()));
        (health, told, tasks)
    }

    async fn seconds(n: u64) {
        sleep(Duration::from_secs(n)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_told_when_it_comes() {
        let (health, told, _tasks) = start(None);
        let kafka = health.component("kafka");

        seconds(2).await;
        kafka.ready();
        seconds(60).await;

        assert_eq!(told.seconds_of("READY=1"), [2]);
        assert_eq!(told.seconds_of("STATUS=waiting for kafka: starting"), [0]);
        assert_eq!(told.seconds_of("STATUS=0 in flight, 0 unsettled"), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_world_that_is_down_does_not_hold_up_the_boot() {
        let (health, told, _tasks) = start(None);

        health.component("kafka").waiting("no broker answers\nREADY=0");
        seconds(60).await;

        assert_eq!(told.seconds_of("READY=1"), [5]);
        assert_eq!(told.seconds_of("STATUS=waiting for kafka: no broker answers READY=0"), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_the_heart_beats() {
        let (health, told, _tasks) = start(Some(Duration::from_secs(4)));

        health.beat();
        seconds(120).await;

        let fed = told.seconds_of("WATCHDOG=1");
        assert!(fed.windows(2).all(|pair| pair[1] - pair[0] <= 2), "{fed:?}");
        assert_eq!(fed.last(), Some(&30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_asks_for_time_while_the_heart_beats() {
        let (health, told, _tasks) = start(None);

        health.beat();
        seconds(3).await;
        health.draining();
        seconds(120).await;

        assert_eq!(told.seconds_of("STOPPING=1"), [3]);
        assert_eq!(told.seconds_of("STATUS=draining: 0 in flight, 0 unsettled"), [3]);
        let asked = told.seconds_of("EXTEND_TIMEOUT_USEC=20000000");
        assert_eq!(asked.first(), Some(&3));
        assert!(asked.last().is_some_and(|last| (25..=30).contains(last)), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_after_the_end() {
        let told = Mutex::new(0);
        let watched = (Health::default(), Metrics::default());

        let end = sleep(Duration::from_secs(12));
        notify_with(|states| *told.lock().unwrap() += states.len(), None, watched, end).await;

        assert_eq!(*told.lock().unwrap(), 2);
    }
}
