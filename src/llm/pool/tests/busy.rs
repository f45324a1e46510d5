//! What becomes of calls where an endpoint has too much to do.

use tokio::time::timeout;

use super::*;

async fn is_kept(pool: &Pool) -> bool {
    timeout(Duration::from_millis(1), enter(pool, "a")).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_refused_gets_no_call_though_the_others_are_full() {
    let pool = pool(2, 1, |_| ());
    let (refusing, full_up) = (enter(&pool, "a").await, enter(&pool, "a").await);
    assert_eq!((place(&refusing), place(&full_up)), (0, 1));

    // The other one serves the model: the call goes there, and gets in line for it.
    assert!(refusing.end(Some(&full()), None));

    assert!(is_kept(&pool).await);
    full_up.end(None, None);
    assert_eq!(place(&enter(&pool, "a").await), 1);
}

#[tokio::test(start_paused = true)]
async fn the_line_is_held_and_the_rest_doubles_while_nobody_is_answered() {
    let pool = pool(1, 4, |_| ());
    for rest in [0, 1, 2, 4, 4] {
        let begun = Instant::now();
        let permit = enter(&pool, "a").await;
        assert_eq!(begun.elapsed(), seconds(rest));
        permit.end(Some(&full()), None);
    }
    enter(&pool, "a").await.end(None, None);

    enter(&pool, "a").await.end(Some(&full()), None);
    let begun = Instant::now();
    drop(enter(&pool, "a").await);
    assert_eq!(begun.elapsed(), seconds(1));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_one_call_is_told_binds_all() {
    let after = Some(seconds(7));
    let faults = [
        Fault::Overloaded { after, message: String::new() },
        Fault::RateLimited { after, message: String::new() },
        Fault::ServerError { status: 502, after, message: String::new() },
    ];
    for fault in faults {
        let pool = pool(1, 4, |_| ());
        let also = enter(&pool, "a").await;
        enter(&pool, "a").await.end(Some(&fault), None);
        let begun = Instant::now();
        // Sent before the refusal: it says nothing about what came after.
        also.end(None, None);

        drop(enter(&pool, "a").await);

        assert_eq!(begun.elapsed(), seconds(7), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_refused_together_are_one_refusal() {
    let pool = pool(1, 4, |_| ());
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(enter(&pool, "a").await);
    }
    for permit in sent {
        permit.end(Some(&full()), None);
    }

    let begun = Instant::now();
    drop(enter(&pool, "a").await);
    assert_eq!(begun.elapsed(), seconds(1));
}

#[tokio::test(start_paused = true)]
async fn one_call_tries_and_with_each_answer_there_is_room_for_one_more() {
    let pool = pool(1, 4, |_| ());
    enter(&pool, "a").await.end(Some(&full()), None);

    let first = enter(&pool, "a").await;
    assert!(first.is_try() && is_kept(&pool).await);
    first.end(None, None);

    let mut open = vec![enter(&pool, "a").await, enter(&pool, "a").await];
    assert!(open[1].is_try() && is_kept(&pool).await);
    open.pop().unwrap().end(None, None);
    open.pop().unwrap().end(None, None);

    for _ in 0..4 {
        open.push(enter(&pool, "a").await);
    }
    assert!(!open[3].is_try());
}

#[tokio::test(start_paused = true)]
async fn what_it_kept_when_it_refused_it_is_sent_again() {
    let pool = pool(1, 4, |_| ());
    let kept = [enter(&pool, "a").await, enter(&pool, "a").await];
    enter(&pool, "a").await.end(Some(&full()), None);

    sleep(seconds(1)).await;
    assert!(is_kept(&pool).await);
    drop(kept);
    let _both = [enter(&pool, "a").await, enter(&pool, "a").await];
    assert!(is_kept(&pool).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_an_endpoint_that_refuses_and_nobody_leaves_while_it_is_tried() {
    let pool = pool(1, 4, |config| config.start_timeout = seconds(30));
    let asked = Fault::Overloaded { after: Some(seconds(3)), message: "full".to_owned() };
    enter(&pool, "a").await.end(Some(&asked), None);
    let (queue, model, begun) = (QueueTime::default(), "a".into(), Instant::now());
    let trial = pool.enter(&model, caller(true), &queue).await;
    let mut waiting = Box::pin(pool.enter(&model, caller(true), &queue));
    assert!(timeout(seconds(40), &mut waiting).await.is_err());

    trial.ok().unwrap().end(Some(&asked), None);

    assert!(matches!(waiting.await, Err(Turned::Failed(_, fault)) if fault == asked));
    assert_eq!(begun.elapsed(), seconds(43));
}

#[tokio::test(start_paused = true)]
async fn nothing_stands_in_for_an_endpoint_that_only_has_too_much_to_do() {
    let pool = pool(1, 4, |_| ());
    enter(&pool, "a").await.end(Some(&full()), None);

    assert!(pool.serves(&"a".into()));
    let (queue, model, begun) = (QueueTime::default(), "a".into(), Instant::now());
    let permit = pool.enter(&model, caller(false), &queue).await;
    assert!(permit.is_ok());
    assert_eq!(begun.elapsed(), seconds(1));
}

#[tokio::test(start_paused = true)]
async fn so_many_refusals_in_a_row_cost_nothing_and_an_answer_makes_them_forgotten() {
    let pool = pool(1, 4, |_| ());
    let mut tries = Vec::new();

    for _ in 0..6 {
        let permit = enter(&pool, "a").await;
        tries.push(permit.is_try());
        permit.end(Some(&full()), None);
    }

    assert_eq!(tries, [false, true, true, true, true, false], "the first one was no try");
    enter(&pool, "a").await.end(None, None);
    enter(&pool, "a").await.end(Some(&full()), None);
    assert!(enter(&pool, "a").await.is_try());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_otherwise_shows_that_there_was_room() {
    let pool = pool(1, 4, |_| ());
    let garbage = Fault::BadOutput { reason: "no JSON".to_owned() };
    enter(&pool, "a").await.end(Some(&full()), None);

    enter(&pool, "a").await.end(Some(&garbage), None);

    let _two = [enter(&pool, "a").await, enter(&pool, "a").await];
    assert!(is_kept(&pool).await, "room for two by now");
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_for_the_load_keeps_its_turn() {
    let pool = pool(1, 1, |_| ());
    let first = enter(&pool, "a").await;
    let (model, queue) = ("a".into(), QueueTime::default());
    let mut second = Box::pin(pool.enter(&model, caller(true), &queue));
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    let turn = first.turn();
    first.end(Some(&full()), None);

    let again = Caller { turn: Some(turn), ..caller(true) };
    let mut first = Box::pin(pool.enter(&model, again, &queue));
    let served = tokio::select! {
        biased;
        _ = second.as_mut() => "the second",
        _ = first.as_mut() => "the first",
    };
    assert_eq!(served, "the first");
}
