use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::telemetry::metrics::Kind;

/// The samples of an exposition by name and labels, after a look at every line of it.
pub(super) fn read(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind, mut ended) = (String::new(), String::new(), false);
    for line in text.lines() {
        assert!(!ended, "a line after the end: {line}");
        if line == "# EOF" {
            ended = true;
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            let told = help.len() > family.len() + 8 && help.ends_with('.');
            assert!(told && families.insert(family.clone()), "{line}");
        } else if let Some(kinds) = line.strip_prefix("# TYPE ") {
            let (name, of) = kinds.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = of.to_owned();
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').unwrap();
            assert!(name == family && name.ends_with(unit), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, _) = series.split_once('{').unwrap_or((series, ""));
            let suffix = name.strip_prefix(family.as_str()).unwrap();
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_sum", "_count", "_bucket"],
                "info" => &["_info"],
                other => panic!("{other}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            check_labels(series.strip_prefix(name).unwrap());
            let twice = samples.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(twice, None, "{line}");
        }
    }
    assert!(ended);
    samples
}

/// Checks `{name="value",…}` with its escapes.
fn check_labels(text: &str) {
    let Some(mut rest) = text.strip_prefix('{') else {
        return assert_eq!(text, "");
    };
    while rest != "}" {
        let (name, value) = rest.split_once("=\"").unwrap();
        let letters = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!name.is_empty() && name.chars().all(letters), "{text}");
        let mut characters = value.chars();
        while let Some(character) = characters.next()
            && character != '"'
        {
            if character == '\\' {
                assert!(matches!(characters.next(), Some('\\' | '"' | 'n')), "{text}");
            }
        }
        rest = characters.as_str().trim_start_matches(',');
    }
}

#[test]
fn every_row_of_the_table_is_exposed() {
    let metrics = Metrics::default();

    let text = metrics.encode();

    read(&text);
    for row in metrics.rows() {
        let family = row.family();
        assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        assert!(text.contains(&format!("# TYPE {family} {}\n", row.kind.as_str())), "{family}");
        let total = row.name.ends_with("_total");
        assert_eq!(total, row.kind == Kind::Counter, "{}", row.name);
    }
    assert_eq!(text.matches("# TYPE").count(), metrics.rows().len());
}

#[test]
fn closed_label_sets_exist_at_zero_from_the_start() {
    let samples = read(&Metrics::default().encode());

    for series in [
        "weir_records_consumed_total",
        "weir_results_total{status=\"failure\"}",
        "weir_transactions_total{outcome=\"fenced\"}",
        "weir_consumer_rebalances_total{kind=\"lost\"}",
        "weir_node_executions_total{node=\"llm_analysis\",outcome=\"error\"}",
        "weir_workflow_duration_seconds_count{status=\"error\"}",
        "weir_workflow_duration_seconds_bucket{le=\"1800.0\",status=\"error\"}",
        "weir_panics_total",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
}

#[test]
fn what_is_recorded_is_exposed() {
    let metrics = Metrics::new("2.12.1");

    metrics.records_consumed(7);
    metrics.rebalance("assign");
    metrics.assigned_partitions(3);
    metrics.lag(2, 41);
    metrics.transaction("committed", Duration::from_millis(3), 40);
    metrics.transaction("aborted", Duration::from_secs(3), 9);
    metrics.recovery(2, 500, 4);
    metrics.journal_records(2, 900);
    metrics.in_flight(12);
    metrics.unsettled(340);
    metrics.result("success");
    metrics.dead_letter("llm.timeout");
    metrics.retry("llm.timeout");
    metrics.run(Duration::from_secs(3), "success");
    metrics.node("data_agent", Duration::from_micros(3), true);

    let samples = read(&metrics.encode());
    for (series, value) in [
        ("weir_records_consumed_total", 7.0),
        ("weir_consumer_rebalances_total{kind=\"assign\"}", 1.0),
        ("weir_consumer_assigned_partitions", 3.0),
        ("weir_consumer_lag_records{partition=\"2\"}", 41.0),
        ("weir_transactions_total{outcome=\"committed\"}", 1.0),
        ("weir_transactions_total{outcome=\"aborted\"}", 1.0),
        ("weir_transaction_duration_seconds_sum", 3.003),
        ("weir_transaction_records_sum", 40.0),
        ("weir_recovery_records{partition=\"2\"}", 500.0),
        ("weir_recovery_effects_total", 4.0),
        ("weir_journal_bytes_total", 900.0),
        ("weir_workflows_in_flight", 12.0),
        ("weir_results_total{status=\"success\"}", 1.0),
        ("weir_dead_letters_total{class=\"llm.timeout\"}", 1.0),
        ("weir_retries_total{class=\"llm.timeout\"}", 1.0),
        ("weir_workflow_duration_seconds_bucket{le=\"2.5\",status=\"success\"}", 0.0),
        ("weir_workflow_duration_seconds_bucket{le=\"5.0\",status=\"success\"}", 1.0),
        ("weir_workflow_duration_seconds_bucket{le=\"+Inf\",status=\"success\"}", 1.0),
        ("weir_node_executions_total{node=\"data_agent\",outcome=\"ok\"}", 1.0),
        ("weir_node_duration_seconds_sum{node=\"data_agent\"}", 0.000_003),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    let build = samples.keys().find(|series| series.starts_with("weir_build_info{")).unwrap();
    assert!(build.contains("librdkafka=\"2.12.1\"") && build.contains("version=\""), "{build}");
    assert_eq!(metrics.summary(), "12 in flight, 340 unsettled, lag 41");
}

#[test]
fn a_model_call_is_exposed_under_opentelemetrys_names() {
    let metrics = Metrics::default();
    let call = LlmCall {
        provider: "ollama",
        model: "odd \"name\"\\\n",
        outcome: "ok",
        total: Duration::from_secs(2),
        first_byte: Some(Duration::from_millis(300)),
        input_tokens: 11,
        output_tokens: 5,
    };

    metrics.llm_model(call.provider, call.model);
    let before = read(&metrics.encode());
    metrics.llm_call(&call);
    metrics.llm_call(&LlmCall { outcome: "llm.timeout", first_byte: None, ..call });
    metrics.llm_in_flight("gpu:11434", 2);
    metrics.llm_in_flight("gpu:11434", -1);

    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="ollama",gen_ai_request_model="odd \"name\"\\\n""#;
    let after = read(&metrics.encode());
    let count = format!("gen_ai_client_operation_duration_seconds_count{{{labels}}}");
    assert_eq!((before.get(&count), after.get(&count)), (Some(&0.0), Some(&1.0)));
    for (series, value) in [
        (
            format!(
                "gen_ai_client_operation_duration_seconds_count{{{labels},error_type=\"llm.timeout\"}}"
            ),
            1.0,
        ),
        (format!("gen_ai_client_operation_time_to_first_chunk_seconds_count{{{labels}}}"), 1.0),
        (format!("gen_ai_client_inference_usage_input_tokens_total{{{labels}}}"), 22.0),
        (format!("gen_ai_client_inference_usage_output_tokens_total{{{labels}}}"), 10.0),
        ("weir_llm_requests_in_flight".to_owned(), 1.0),
    ] {
        assert_eq!(after.get(&series), Some(&value), "{series}");
    }
}

#[test]
fn an_open_label_set_stops_growing_at_a_thousand() {
    let metrics = Metrics::default();

    for n in 0..1003 {
        metrics.node(&format!("node-{n}"), Duration::ZERO, true);
    }

    let samples = read(&metrics.encode());
    assert_eq!(
        samples.get("weir_node_executions_total{node=\"node-999\",outcome=\"ok\"}"),
        Some(&1.0)
    );
    assert_eq!(samples.get("weir_node_executions_total{node=\"node-1000\",outcome=\"ok\"}"), None);
    assert_eq!(
        samples.get("weir_node_executions_total{node=\"other\",outcome=\"other\"}"),
        Some(&3.0)
    );
}

#[test]
fn a_partition_given_away_has_no_series() {
    let metrics = Metrics::default();
    metrics.lag(0, 5);
    metrics.lag(1, -1);
    metrics.recovery(0, 9, 9);

    metrics.forget_partition(0);

    let samples = read(&metrics.encode());
    assert_eq!(samples.get("weir_consumer_lag_records{partition=\"0\"}"), None);
    assert_eq!(samples.get("weir_recovery_records{partition=\"0\"}"), None);
    assert_eq!(samples.get("weir_consumer_lag_records{partition=\"1\"}"), Some(&-1.0));
    assert_eq!(metrics.summary(), "0 in flight, 0 unsettled");
}

#[test]
fn histograms_lose_nothing_between_threads() {
    let metrics = Metrics::default();

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    metrics.llm_permit_wait(Duration::from_millis(500));
                }
            });
        }
    });

    let samples = read(&metrics.encode());
    assert_eq!(samples.get("weir_llm_permits_wait_seconds_count"), Some(&40_000.0));
    assert_eq!(samples.get("weir_llm_permits_wait_seconds_sum"), Some(&20_000.0));
    assert_eq!(samples.get("weir_llm_permits_wait_seconds_bucket{le=\"0.25\"}"), Some(&0.0));
    assert_eq!(samples.get("weir_llm_permits_wait_seconds_bucket{le=\"0.5\"}"), Some(&40_000.0));
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_is_measured_when_it_is_asked() {
    let samples = read(&Metrics::default().encode());

    let megabytes = samples["process_resident_memory_bytes"] / 1e6;
    assert!((1.0..10_000.0).contains(&megabytes), "{megabytes}");
    assert!(samples["process_virtual_memory_bytes"] >= samples["process_resident_memory_bytes"]);
    assert!(samples["process_open_fds"] >= 3.0);
    assert!(samples["process_max_fds"] >= samples["process_open_fds"]);
    assert!(samples["process_threads"] >= 2.0);
    assert!(samples["process_start_time_seconds"] > 1.7e9);
    assert!((0.0..1e6).contains(&samples["process_cpu_seconds_total"]));
}
