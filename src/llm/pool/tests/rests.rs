//! What becomes of those in line while endpoints rest, or don't serve the model.

use tokio::time::timeout;

use super::*;

fn missing() -> Fault {
    Fault::ModelMissing { message: "not found".to_owned() }
}

async fn fail(pool: &Pool, times: usize) {
    for _ in 0..times {
        enter(pool, "a").await.end(Some(&broken()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn those_in_line_stay_while_a_call_tries_an_endpoint_that_may_have_to_load() {
    for fails in [false, true] {
        let pool = pool(1, 4, |_| ());
        fail(&pool, 3).await;
        let trial = enter(&pool, "a").await;
        let (model, queue) = ("a".into(), QueueTime::default());
        let mut waiting = Box::pin(pool.enter(&model, caller(true), &queue));

        assert!(timeout(2 * pool.patience(), &mut waiting).await.is_err());
        trial.end(fails.then(broken).as_ref(), None);

        match waiting.await {
            Ok(_) => assert!(!fails),
            Err(Turned::Failed(_, fault)) => assert!(fails && fault == broken()),
            Err(Turned::Away | Turned::TooManyModels) => panic!("sent away"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_rests_is_waited_for_where_the_others_do_not_serve_the_model() {
    let pool = pool(2, 4, |_| ());
    let calls = [0; 6].map(|_| enter(&pool, "a"));
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for call in calls {
        let call = call.await;
        if place(&call) == 0 { here.push(call) } else { there.push(call) }
    }
    for call in there {
        call.end(Some(&broken()), None);
    }

    for call in here {
        assert!(call.end(Some(&missing()), None), "to be made where the model is");
    }
    let begun = Instant::now();
    let next = enter(&pool, "a").await;

    assert_eq!((place(&next), begun.elapsed()), (1, seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_no_endpoint_serves_is_not_waited_for() {
    let pool = pool(2, 4, |_| ());
    let first = enter(&pool, "a").await;
    assert!(first.end(Some(&missing()), None));
    let second = enter(&pool, "a").await;
    assert!(!second.end(Some(&missing()), None));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_anothers_mistake() {
    let pool = pool(1, 4, |_| ());
    let (one, other) = (enter(&pool, "a").await, enter(&pool, "a").await);
    let asked = Fault::Overloaded { after: Some(seconds(60)), message: "later".to_owned() };
    one.end(Some(&asked), None);
    other.end(Some(&Fault::ContextOverflow { message: "of another".to_owned() }), None);

    let turned = pool.enter(&"a".into(), caller(true), &QueueTime::default()).await;

    assert!(matches!(turned, Err(Turned::Failed(_, fault)) if fault == asked));
}
