//! What changes of the model cost: a simulated server that takes five seconds for each, in simulated time.

use std::collections::VecDeque;
use std::sync::Mutex as Lock;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;

const LOAD: Duration = Duration::from_secs(5);
const WORK: Duration = Duration::from_millis(500);
const SLOTS: usize = 4;

/// A server with room for one model and four calls of it. As Ollama, it changes the model when it is idle.
#[derive(Default)]
struct Server {
    state: Lock<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    model: Option<String>,
    is_loading: bool,
    running: usize,
    loads: usize,
}

impl Server {
    /// Serves one call, and returns how long it took to load its model.
    async fn serve(&self, model: &str) -> Duration {
        let mut load = Duration::ZERO;
        loop {
            let changed = self.changed.notified();
            let must_load = {
                let mut state = self.state.lock().unwrap();
                let is_loaded = state.model.as_deref() == Some(model) && !state.is_loading;
                if is_loaded && state.running < SLOTS {
                    state.running += 1;
                    break;
                }
                let must_load = !is_loaded && !state.is_loading && state.running == 0;
                if must_load {
                    state.is_loading = true;
                    state.loads += 1;
                    state.model = Some(model.to_owned());
                }
                must_load
            };
            if must_load {
                sleep(LOAD).await;
                load = LOAD;
                self.state.lock().unwrap().is_loading = false;
                self.changed.notify_waiters();
            } else {
                changed.await;
            }
        }
        sleep(WORK).await;
        self.state.lock().unwrap().running -= 1;
        self.changed.notify_waiters();
        load
    }

    fn loads(&self) -> usize {
        self.state.lock().unwrap().loads
    }
}

fn servers() -> [Server; 2] {
    [Server::default(), Server::default()]
}

/// Calls of two models in an order that is as good as random; of each hundred so many are of the second.
fn mixed(calls: usize, of_b: usize) -> Vec<&'static str> {
    let mut seed = 7_usize;
    let mut draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % 100
    };
    (0..calls).map(|_| if draw() < of_b { "b" } else { "a" }).collect()
}

/// Makes the calls by the pool, all at once, and returns how long they took.
async fn by_the_pool(calls: &[&str], servers: &[Server]) -> Duration {
    let (pool, begun) = (pool(servers.len(), SLOTS, |_| ()), Instant::now());
    join_all(calls.iter().map(|model| async {
        let permit = enter(&pool, model).await;
        let load = servers[place(&permit)].serve(model).await;
        permit.end(None, Some(load).filter(|load| !load.is_zero()));
    }))
    .await;
    begun.elapsed()
}

/// Makes the calls in one line, each at the endpoint with the fewest: the control.
async fn by_one_line(calls: &[&str], servers: &[Server]) -> Duration {
    let begun = Instant::now();
    let line = Semaphore::new(SLOTS * servers.len());
    let loads: Vec<_> = servers.iter().map(|_| Lock::new(0)).collect();
    join_all(calls.iter().map(|model| async {
        let _turn = line.acquire().await.unwrap();
        let least = (0..servers.len()).min_by_key(|n| *loads[*n].lock().unwrap()).unwrap();
        *loads[least].lock().unwrap() += 1;
        servers[least].serve(model).await;
        *loads[least].lock().unwrap() -= 1;
    }))
    .await;
    begun.elapsed()
}

/// The best that can be done: the calls grouped by model, changes included, spread evenly over both endpoints.
fn ideal(calls: &[&str]) -> Duration {
    let of_b = calls.iter().filter(|model| **model == "b").count();
    let rounds = |calls: usize| u32::try_from(calls.div_ceil(SLOTS)).unwrap();
    let (a, b) = (WORK * rounds(calls.len() - of_b), WORK * rounds(of_b));
    // One endpoint does the rarer model, then helps with the other if that pays for the load.
    let (longer, shorter) = (a.max(b) + LOAD, a.min(b) + LOAD);
    longer.min((longer + shorter + LOAD) / 2).max(shorter)
}

#[tokio::test(start_paused = true)]
async fn mixed_calls_are_grouped() {
    for of_b in [50, 25, 10] {
        let calls = mixed(800, of_b);
        let (grouped, alternating) = (servers(), servers());

        let took = by_the_pool(&calls, &grouped).await;
        let control = by_one_line(&calls, &alternating).await;

        let (ideal, loads) = (ideal(&calls), grouped.each_ref().map(Server::loads));
        let told =
            format!("{of_b} %: {took:?}, ideal {ideal:?}, one line {control:?}, loads {loads:?}");
        assert!(took <= ideal.mul_f64(1.3), "{told}");
        assert!(control >= 3 * took, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_one_endpoint_two_busy_models_take_turns_and_neither_starves() {
    let patience = seconds(30);
    let (pool, server) =
        (pool(1, SLOTS, |config| config.swap_patience = patience), Server::default());
    let waits = Lock::new(VecDeque::new());
    let end = Instant::now() + seconds(300);
    let clients = (0..40).map(|n| {
        let (pool, server, waits) = (&pool, &server, &waits);
        let model = if n % 2 == 0 { "a" } else { "b" };
        async move {
            while Instant::now() < end {
                let arrived = Instant::now();
                let permit = enter(pool, model).await;
                waits.lock().unwrap().push_back(arrived.elapsed());
                let load = server.serve(model).await;
                permit.end(None, Some(load).filter(|load| !load.is_zero()));
            }
        }
    });
    join_all(clients).await;

    let longest = waits.lock().unwrap().iter().max().copied().unwrap();
    assert!(longest <= patience + LOAD + seconds(5), "{longest:?}");
    assert!(server.loads() <= 300 / 30 + 2, "{}", server.loads());
    // Of 300 s at most 10 loads of 5 s: the rest is work, eight calls a second.
    let calls = waits.lock().unwrap().len();
    assert!(calls > 1800, "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_rare_model_gets_an_idle_endpoint_and_a_busy_one_is_not_disturbed_for_it() {
    let pool = pool(2, 1, |_| ());
    let (a, b) = (enter(&pool, "a").await, enter(&pool, "b").await);
    assert_ne!(place(&a), place(&b));
    let (home, begun) = (place(&b), Instant::now());
    b.end(None, None);

    // The other endpoint has work of its own; this one is idle, but what it holds is worth a short wait.
    let also = enter(&pool, "a").await;

    assert_eq!(place(&also), home);
    assert_eq!(begun.elapsed(), seconds(2));
}

#[tokio::test(start_paused = true)]
async fn models_that_are_loaded_together_do_not_wait_for_each_other() {
    let pool = pool(1, 1, |_| ());
    drop(enter(&pool, "a").await);
    pool.board().model(&"b".into());
    pool.board().resident(0, |_| true, Instant::now());
    let begun = Instant::now();

    let _both = (enter(&pool, "a").await, enter(&pool, "b").await);

    assert_eq!(begun.elapsed(), Duration::ZERO);
}
