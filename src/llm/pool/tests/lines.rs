//! Who gets the next permit, and who waits.

use std::sync::Mutex as Log;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::*;

async fn is_kept(pool: &Pool, model: &str) -> bool {
    timeout(Duration::from_millis(1), enter(pool, model)).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn permits_are_counted_by_endpoint_and_model() {
    let pool = pool(2, 2, |_| ());
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(enter(&pool, "a").await);
    }

    assert!(is_kept(&pool, "a").await);
    held.pop();
    assert!(!is_kept(&pool, "a").await);
}

#[tokio::test(start_paused = true)]
async fn calls_go_where_the_fewest_are() {
    let pool = pool(3, 100, |_| ());
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(enter(&pool, "a").await);
    }
    let mut counts = [0; 3];
    held.iter().for_each(|permit| counts[place(permit)] += 1);
    assert_eq!(counts, [10; 3]);

    held.retain(|permit| place(permit) != 1);
    for _ in 0..10 {
        held.push(enter(&pool, "a").await);
    }
    assert_eq!(held.iter().filter(|permit| place(permit) == 1).count(), 10);
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_stays_where_its_model_is_loaded() {
    let pool = pool(3, 4, |_| ());
    for _ in 0..10 {
        assert_eq!(place(&enter(&pool, "a").await), 0);
    }
    pool.board().resident(0, |_| false, Instant::now());
    pool.board().resident(2, |model| model == "a", Instant::now());
    assert_eq!(place(&enter(&pool, "a").await), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_leave_in_the_order_of_their_arrival_and_a_dropped_one_keeps_nobody() {
    let pool = pool(1, 1, |_| ());
    let (held, order) = (enter(&pool, "a").await, Log::new(Vec::new()));
    let calls = (0..100).map(|n| {
        let (pool, order) = (&pool, &order);
        async move {
            let permit = enter(pool, "a");
            if n % 10 == 3 {
                assert!(timeout(seconds(1), permit).await.is_err());
                return;
            }
            let permit = permit.await;
            order.lock().unwrap().push(n);
            sleep(seconds(1)).await;
            permit.end(None, None);
        }
    });
    let release = async {
        sleep(seconds(2)).await;
        drop(held);
    };
    tokio::join!(join_all(calls), release);

    let expected: Vec<_> = (0..100).filter(|n| n % 10 != 3).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_nobody_took_goes_to_the_next() {
    let pool = pool(1, 1, |_| ());
    let held = enter(&pool, "a").await;
    let mut first = Box::pin(enter(&pool, "a"));
    let mut second = Box::pin(enter(&pool, "a"));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());

    drop(held);
    drop(first);

    assert!(futures_util::poll!(&mut second).is_ready());
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_an_endpoint_that_rests_and_one_tries_it() {
    let pool = pool(1, 4, |_| ());
    for _ in 0..3 {
        enter(&pool, "a").await.end(Some(&broken()), None);
    }
    let begun = Instant::now();
    let trial = enter(&pool, "a").await;
    assert_eq!(begun.elapsed(), seconds(1));
    assert!(is_kept(&pool, "a").await);

    trial.end(None, None);

    assert!(!is_kept(&pool, "a").await);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_endpoints_that_rest() {
    let pool = pool(1, 4, |config| config.start_timeout = seconds(30));
    for _ in 0..3 {
        enter(&pool, "a").await.end(Some(&refused()), None);
    }
    let begun = Instant::now();
    let keep_down = async {
        loop {
            pool.heard(0, false);
            sleep(seconds(1)).await;
        }
    };
    let queue = QueueTime::default();
    let (model, again) = ("a".into(), "a".into());
    let calls = async {
        tokio::join!(
            pool.enter(&model, caller(true), &queue),
            pool.enter(&again, caller(true), &queue)
        )
    };
    let (first, second) =
        tokio::select! { ended = calls => ended, () = keep_down => unreachable!() };

    for ended in [first, second] {
        assert!(matches!(ended, Err(Turned::Failed(_, fault)) if fault == refused()));
    }
    assert_eq!(begun.elapsed(), seconds(30));
    assert_eq!(queue.total(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn who_need_not_stay_leaves_when_every_endpoint_rests() {
    let pool = pool(1, 1, |_| ());
    let held = enter(&pool, "a").await;
    let (queue, model) = (QueueTime::default(), "a".into());
    let mut waiting = Box::pin(pool.enter(&model, caller(false), &queue));
    assert!(futures_util::poll!(&mut waiting).is_pending());

    let stuck = Fault::Timeout { phase: Phase::Frozen, after: seconds(20) };
    held.end(Some(&stuck), None);

    assert!(matches!(waiting.await, Err(Turned::Away)));
    assert!(!pool.serves(&model));
    assert!(matches!(pool.enter(&model, caller(false), &queue).await, Err(Turned::Away)));
}

#[tokio::test(start_paused = true)]
async fn a_shut_pool_lets_calls_through_when_it_opens_or_its_time_is_over() {
    let pool = pool(1, 4, |_| ());
    let begun = Instant::now();
    pool.shut(begun + seconds(30));
    let opener = async {
        sleep(seconds(2)).await;
        pool.open();
    };
    let (permit, ()) = tokio::join!(enter(&pool, "a"), opener);
    assert_eq!(begun.elapsed(), seconds(2));
    drop(permit);

    pool.shut(begun + seconds(30));
    enter(&pool, "a").await;
    assert_eq!(begun.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_the_model_is_passed_over_and_asked_where_there_is_no_other() {
    let missing = Fault::ModelMissing { message: "none".to_owned() };
    let two = pool(2, 4, |_| ());
    let first = enter(&two, "a").await;
    assert_eq!(place(&first), 0);
    assert!(first.end(Some(&missing), None));
    assert_eq!(place(&enter(&two, "a").await), 1);

    let one = pool(1, 4, |_| ());
    for _ in 0..5 {
        assert!(!enter(&one, "a").await.end(Some(&missing), None));
    }
    assert!(!one.serves(&"a".into()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_failed_comes_last_for_a_while() {
    let pool = pool(2, 2, |_| ());
    let first = enter(&pool, "a").await;
    assert_eq!(place(&first), 0);
    assert!(first.end(Some(&broken()), None));

    let held = [enter(&pool, "a").await, enter(&pool, "a").await];
    assert!(held.iter().all(|permit| place(permit) == 1));
    assert_eq!(place(&enter(&pool, "a").await), 0);
    drop(held);

    sleep(seconds(1)).await;
    let held = [enter(&pool, "a").await, enter(&pool, "a").await];
    assert_ne!(place(&held[0]), place(&held[1]), "both have as much to do");
}

#[tokio::test(start_paused = true)]
async fn more_models_than_anybody_means_are_refused() {
    let pool = pool(1, 4, |_| ());
    for n in 0..64 {
        pool.board().model(&n.to_string().into()).unwrap();
    }
    let queue = QueueTime::default();
    let refused = pool.enter(&"64".into(), caller(true), &queue).await;
    assert!(matches!(refused, Err(Turned::TooManyModels)));
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_trial_changes_is_told() {
    let seen = Arc::new(Log::new(Vec::new()));
    let log = Arc::clone(&seen);
    let pool = observed(1, move |state| log.lock().unwrap().push(state));
    for _ in 0..3 {
        enter(&pool, "a").await.end(Some(&broken()), None);
    }

    drop(enter(&pool, "a").await);

    let expected = [BreakerState::Open, BreakerState::HalfOpen, BreakerState::Open];
    assert_eq!(*seen.lock().unwrap(), expected);
}
