//! Commits that a broker has undone after its restart.

use super::*;

#[tokio::test]
async fn an_abort_that_undoes_what_was_committed_before_an_outage_ends_the_process() {
    // Where the broker says that the position is after the abort, and what comes of it. The mock applies no transaction.
    for (found, is_undone) in [(5, false), (7, false), (4, true)] {
        let bench = Bench::new().await;
        let before = bench.commit(&[(0, 5, "committed")]).await;
        bench.apply(0, found, "read back");
        let gone = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        let was_away = [false, true];
        for (number, is_away) in was_away.into_iter().enumerate() {
            if is_away {
                bench.reporter.error(&gone, "1/1 brokers are down");
            }
            bench.fail(
                RDKafkaApiKey::TxnOffsetCommit,
                &[Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION],
            );

            let outcome = bench.commit(&[(0, 6, &format!("later {number}"))]).await;

            let Commit::Aborted { error } = outcome else { panic!("{outcome:?}") };
            let told = matches!(error, Error::RolledBack { .. });
            assert_eq!(told, is_away && is_undone, "at {found}: {error}");
        }
        assert!(matches!(before, Commit::Applied { .. }), "{before:?}");
    }
}

/// A map's text, for a position `base` of partition 0.
fn map(base: i64, next: i64, unsettled: &[i64]) -> String {
    let config = Config::default();
    let scope = Scope {
        group: &config.consumer_group_id,
        topic: &config.workflow_events_topic,
        partition: PartitionId(0),
    };
    let unsettled = unsettled.iter().copied().map(Offset).collect();
    let (next, journal_base) = (Offset(next), Offset(0));
    Map { next, journal_base, nonce: 7, unsettled }.encode(&scope, Offset(base))
}

const GONE: KafkaError = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);

fn is_rolled_back(outcome: &Commit) -> bool {
    matches!(outcome, Commit::Aborted { error: Error::RolledBack { .. } })
}

#[tokio::test]
async fn an_undone_commit_is_told_by_its_map_where_its_offset_was_that_of_the_one_before() {
    // One slow run holds the offset at 5; 6 and 7 are settled.
    let ours = map(5, 9, &[5, 8]);
    for (found, metadata, is_undone) in [
        (5, ours.clone(), false),
        (5, map(5, 9, &[5, 7, 8]), true),
        (5, map(5, 7, &[5, 6]), true),
        (5, map(5, 6, &[5]), true),
        (5, String::new(), true),
        // The next owner goes on from ours.
        (5, map(5, 12, &[5, 8, 11]), false),
        (8, map(8, 12, &[8]), false),
        (9, String::new(), false),
    ] {
        let bench = Bench::new().await;
        let before = bench.commit(&[(0, 5, &ours)]).await;
        bench.apply(0, found, &metadata);
        bench.reporter.error(&GONE, "1/1 brokers are down");
        bench.fail(RDKafkaApiKey::TxnOffsetCommit, ABORTS);

        let outcome = bench.commit(&[(0, 5, "later")]).await;

        assert!(matches!(before, Commit::Applied { .. }), "{before:?}");
        assert_eq!(is_rolled_back(&outcome), is_undone, "{found} {metadata}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_outage_within_a_commit_makes_it_doubtful_although_it_was_answered_well() {
    let bench = Bench::new().await;
    let busy = [Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 15];
    bench.fail(RDKafkaApiKey::EndTxn, &busy);
    let outage = async {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &bench.config.bootstrap_servers)
            .create()
            .unwrap();
        let results = &bench.config.workflow_results_topic;
        let patience = Duration::from_secs(5);
        let end = |at| reader.fetch_watermarks(results, at, patience).unwrap().1;
        while end(0) + end(1) == 0 {}
        bench.reporter.error(&GONE, "1/1 brokers are down");
    };
    let (before, ()) = tokio::join!(bench.commit(&[(0, 5, "committed")]), outage);
    bench.apply(0, 4, "read back");
    bench.fail(RDKafkaApiKey::TxnOffsetCommit, ABORTS);

    let outcome = bench.commit(&[(0, 6, "later")]).await;

    assert!(matches!(before, Commit::Applied { .. }), "{before:?}");
    assert!(is_rolled_back(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn a_producer_that_is_of_no_use_any_more_may_have_undone_what_was_committed_before() {
    for request in [RDKafkaApiKey::TxnOffsetCommit, RDKafkaApiKey::EndTxn] {
        let bench = Bench::new().await;
        let before = bench.commit(&[(0, 5, "committed")]).await;
        bench.apply(0, 4, "read back");
        bench.reporter.error(&GONE, "1/1 brokers are down");
        bench.fail(request, &[Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);

        let outcome = bench.commit(&[(0, 6, "later")]).await;

        assert!(matches!(before, Commit::Applied { .. }), "{before:?}");
        assert!(is_rolled_back(&outcome), "{request:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn nothing_is_committed_on_top_of_what_may_be_undone_and_can_t_be_read() {
    let bench = Bench::new().await;
    let before = bench.commit(&[(0, 5, "committed")]).await;
    bench.apply(0, 4, "read back");
    bench.reporter.error(&GONE, "1/1 brokers are down");
    bench.fail(RDKafkaApiKey::TxnOffsetCommit, ABORTS);
    bench.fail(
        RDKafkaApiKey::OffsetFetch,
        &[Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1_000],
    );

    let unread = bench.commit(&[(0, 6, "later")]).await;
    let told = bench.health.readyz().reasons();
    bench.cluster.clear_request_errors(RDKafkaApiKey::OffsetFetch);
    let read = bench.commit(&[(0, 6, "later still")]).await;

    assert!(matches!(before, Commit::Applied { .. }), "{before:?}");
    assert!(matches!(unread, Commit::Aborted { error: Error::Broker { .. } }), "{unread:?}");
    assert!(told.contains("can't be read back yet"), "{told}");
    assert!(is_rolled_back(&read), "{read:?}");
}
