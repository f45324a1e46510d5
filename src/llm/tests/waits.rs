//! Time in line.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::llm::queue::QueueTime;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn waits_that_overlap_count_once() {
    let queue = QueueTime::default();

    let first = queue.wait();
    sleep(seconds(1)).await;
    let second = queue.clone().wait();
    sleep(seconds(1)).await;
    drop(first);
    sleep(seconds(1)).await;
    assert_eq!(queue.total(), seconds(3));
    drop(second);
    sleep(seconds(5)).await;

    assert_eq!(queue.total(), seconds(3));
}

#[tokio::test(start_paused = true)]
async fn a_run_expires_by_its_own_time() {
    let queue = QueueTime::default();
    let begun = Instant::now();
    let in_line = async {
        sleep(seconds(2)).await;
        let waiting = queue.wait();
        sleep(seconds(100)).await;
        drop(waiting);
    };

    tokio::join!(in_line, queue.expire(begun, seconds(5)));

    assert_eq!(begun.elapsed(), seconds(105));
}

#[tokio::test(start_paused = true)]
async fn a_run_never_expires_in_line() {
    let queue = QueueTime::default();
    let _waiting = queue.wait();

    let expired = timeout(seconds(1000), queue.expire(Instant::now(), Duration::ZERO)).await;

    assert!(expired.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_all_time_never_passes() {
    let queue = QueueTime::default();

    let expired = timeout(seconds(1000), queue.expire(Instant::now(), Duration::MAX)).await;

    assert!(expired.is_err());
}
