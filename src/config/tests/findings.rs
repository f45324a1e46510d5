//! Problems and warnings: all at once, each once, and with a remedy.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::*;

/// SASL inside TLS, complete.
const SASL: [(&str, &str); 3] = [
    ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
    ("KAFKA_SASL_USERNAME", "ada"),
    ("KAFKA_SASL_PASSWORD", "hunter2"),
];

#[test]
fn every_problem_is_told_at_once() {
    let problems = try_load(&[
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("KAFKA_SESSION_TIMEOUT", "3s"),
        ("WORKFLOW_ORDERING", "Key"),
        ("WORKFLOW_RETRY_BASE", "10s"),
        ("WORKFLOW_RETRY_MAX", "5s"),
        ("LLM_PROVIDER", "olama"),
        ("HTTP_ADDR", ":8080"),
        ("LOG_LEVEL", "verbose"),
        ("WORKFLOW_MAX_IN_FLIHGT", "7"),
    ])
    .unwrap_err();

    assert_eq!(problems.exit_code(), 78);
    assert_eq!(
        problems.to_string(),
        "7 problems in the configuration\
        \n  KAFKA_BOOTSTRAP_SERVERS=\"kafka\" has no port in entry 1; \
        set host:port[,host:port], such as kafka-1:9092,kafka-2:9092; the default is localhost:9092\
        \n  KAFKA_SESSION_TIMEOUT=\"3s\" is below 6s; \
        set a number and a unit (ms, s, m, h) from 6s to 30m, such as 1m 30s; the default is 10s\
        \n  WORKFLOW_ORDERING=\"Key\" is none of the words allowed; \
        set one of unordered, key, partition; the default is unordered\
        \n  LLM_PROVIDER=\"olama\" is none of the words allowed; \
        set one of ollama, openai, auto, in any case; the default is ollama\
        \n  LOG_LEVEL=\"verbose\" has a word that is no level; \
        set off, error, warn, info, debug, trace, or directives such as info,weir::llm=debug; \
        the default is info\
        \n  HTTP_ADDR=\":8080\" is not an IP address and a port; \
        set an IP address and a port such as 0.0.0.0:8080, or off; the default is 127.0.0.1:8080\
        \n  WORKFLOW_RETRY_BASE=\"10s\" makes WORKFLOW_RETRY_BASE (10s) longer than \
        WORKFLOW_RETRY_MAX (5s); keep the base at or below the maximum\
        \n  warning: WORKFLOW_MAX_IN_FLIHGT: is no variable of weir's and is not read; \
        WORKFLOW_MAX_IN_FLIGHT is"
    );
}

#[test]
fn a_value_with_a_problem_causes_no_second_one() {
    check_refused(
        &[("WORKFLOW_RETRY_BASE", "soon"), ("WORKFLOW_RETRY_MAX", "1ms")],
        &["WORKFLOW_RETRY_BASE=\"soon\" is no duration"],
    );
    check_refused(
        &[("KAFKA_SECURITY_PROTOCOL", "tls"), ("KAFKA_SASL_USERNAME", "ada")],
        &["KAFKA_SECURITY_PROTOCOL=\"tls\" is none of the words allowed"],
    );
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let names = table_names();
    let vars: Vec<_> = names.iter().flat_map(|name| [(name.as_str(), ""), (name, "  ")]).collect();

    assert_eq!(shown(loaded(&vars)), shown(Config::default()));
}

fn table_names() -> Vec<String> {
    let secret = |name: &String| name.ends_with("PASSWORD") || name.ends_with("API_KEY");
    let settings = loaded(&[]).settings().to_vec();
    settings.into_iter().map(|setting| setting.variable).filter(|name| !secret(name)).collect()
}

#[test]
fn a_value_that_is_no_utf_8_is_refused_where_it_is_ours() {
    let bytes = || OsString::from_vec(vec![b'a', 0xff]);
    let vars = ["KAFKA_DLQ_TOPIC", "KAFKA_PROP_CLIENT_ID", "SOMEBODY_ELSES"];

    let problems = load(vars.map(|name| (name.into(), bytes()))).unwrap_err();

    let names: Vec<_> = problems.problems().iter().map(|p| p.variable.as_str()).collect();
    assert_eq!(names, ["KAFKA_DLQ_TOPIC", "KAFKA_PROP_CLIENT_ID"]);
    assert!(load([(bytes(), "x".into())]).is_ok());
}

#[test]
fn of_two_values_of_one_variable_the_first_counts() {
    let config = loaded(&[("OLLAMA_MODEL", "a"), ("OLLAMA_MODEL", "b")]);

    assert_eq!(config.llm.ollama.model, "a");
}

#[test]
fn a_name_that_is_a_slip_away_is_pointed_out() {
    let check = |name: &str, meant: Option<&str>| {
        let meant: Vec<_> = meant.map(|meant| format!("{meant} is")).into_iter().collect();
        let meant: Vec<_> = meant.iter().map(String::as_str).collect();
        check_warned(&[(name, "x")], &meant);
    };
    check("KAFKA_BOOTSTRAP_SERVER", Some("KAFKA_BOOTSTRAP_SERVERS"));
    check("kafka_bootstrap_servers", Some("KAFKA_BOOTSTRAP_SERVERS"));
    check("KAFKA_SASL_PASWORD_FILE", Some("KAFKA_SASL_PASSWORD_FILE"));
    check("WORKFLOW_MAX_INFLIGHTS", Some("WORKFLOW_MAX_IN_FLIGHT"));
    check("LOGLEVEL", Some("LOG_LEVEL"));
    check("RUST_LIB", None);
    check("HTTP_ADDRESS", None);
    check("OLLAMA_MODELS", None);
    check("OLLAMA_HOST", None);
    check("KAFKA_PORT", None);
    check("KAFKA_PORT_9092_TCP", None);
    check("PATH", None);
    check(&"K".repeat(100_000), None);
}

#[test]
fn topics_are_four() {
    check_refused(
        &[("KAFKA_DLQ_TOPIC", "workflow-events")],
        &["KAFKA_DLQ_TOPIC=\"workflow-events\" makes KAFKA_DLQ_TOPIC (workflow-events) and"],
    );
    check_refused(
        &[("KAFKA_JOURNAL_TOPIC", "a.b"), ("KAFKA_WORKFLOW_EVENTS_TOPIC", "a_b")],
        &["KAFKA_JOURNAL_TOPIC=\"a.b\" makes"],
    );
    check_refused(&[("KAFKA_DLQ_TOPIC", "..")], &["KAFKA_DLQ_TOPIC=\"..\" is a name that Kafka"]);
    check_refused(&[("INSTANCE_ID", "a b")], &["INSTANCE_ID=\"a b\" contains ' '"]);
}

#[test]
fn credentials_and_protocol_belong_together() {
    check_warned(&SASL, &[]);
    check_refused(
        &[("KAFKA_SASL_USERNAME", "ada"), ("KAFKA_SASL_MECHANISM", "plain")],
        &[
            "KAFKA_SASL_MECHANISM=\"plain\" has no effect: KAFKA_SECURITY_PROTOCOL is plaintext",
            "KAFKA_SASL_USERNAME=\"ada\" has no effect",
        ],
    );
    check_refused(
        &[("KAFKA_SECURITY_PROTOCOL", "Sasl_Plaintext")],
        &[
            "KAFKA_SECURITY_PROTOCOL=\"Sasl_Plaintext\" asks for KAFKA_SASL_USERNAME",
            "KAFKA_SECURITY_PROTOCOL=\"Sasl_Plaintext\" asks for KAFKA_SASL_PASSWORD",
        ],
    );
    check_refused(
        &SASL[..2],
        &["KAFKA_SECURITY_PROTOCOL=\"SASL_SSL\" asks for KAFKA_SASL_PASSWORD"],
    );
    check_warned(
        &[
            ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext"),
            ("KAFKA_SASL_MECHANISM", "PLAIN"),
            SASL[1],
            SASL[2],
        ],
        &["KAFKA_SASL_MECHANISM: PLAIN sends the password readable"],
    );
}

#[test]
fn certificate_and_key_belong_together_and_exist() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.pem");
    std::fs::write(&path, "x").unwrap();
    let path = path.to_str().unwrap();
    let tls = ("KAFKA_SECURITY_PROTOCOL", "ssl");
    let certificate = ("KAFKA_SSL_CERTIFICATE_LOCATION", path);
    let key = ("KAFKA_SSL_KEY_LOCATION", path);

    check_warned(&[tls, certificate, key, ("KAFKA_SSL_CA_LOCATION", "probe")], &[]);
    check_refused(&[tls, certificate], &["KAFKA_SSL_CERTIFICATE_LOCATION="]);
    check_refused(&[tls, key], &["KAFKA_SSL_KEY_LOCATION="]);
    check_refused(
        &[tls, ("KAFKA_SSL_KEY_PASSWORD", "hunter2")],
        &["KAFKA_SSL_KEY_PASSWORD=\"[redacted]\" is set without KAFKA_SSL_KEY_LOCATION"],
    );
    check_refused(&[("KAFKA_SSL_CA_LOCATION", path)], &["KAFKA_SSL_CA_LOCATION=\"/"]);
    check_refused(
        &[tls, ("KAFKA_SSL_CA_LOCATION", "/none/ca.pem")],
        &["KAFKA_SSL_CA_LOCATION=\"/none/ca.pem\" names a file that can't be read: No such file"],
    );
}

#[test]
fn the_rules_of_the_group_hold() {
    check_refused(
        &[("KAFKA_REVOKE_GRACE", "10s")],
        &["KAFKA_REVOKE_GRACE=\"10s\" makes KAFKA_REVOKE_GRACE (10s) no shorter than"],
    );
    check_refused(
        &[("KAFKA_GROUP_PROTOCOL", "consumer"), ("KAFKA_STATIC_MEMBERSHIP", "true")],
        &["KAFKA_STATIC_MEMBERSHIP=\"true\" needs the classic protocol"],
    );
    check_warned(
        &[("KAFKA_GROUP_PROTOCOL", "consumer"), ("KAFKA_SESSION_TIMEOUT", "20s")],
        &["KAFKA_SESSION_TIMEOUT: has no effect"],
    );
    check_warned(
        &[("KAFKA_ENABLE_AUTO_COMMIT", "True")],
        &["has no effect: an offset is committed"],
    );
    check_warned(&[("KAFKA_ENABLE_AUTO_COMMIT", "no")], &[]);
    check_warned(
        &[("KAFKA_TRANSACTION_TIMEOUT", "5m")],
        &["stalls all readers of the results for 5m"],
    );
    check_refused(
        &[("KAFKA_PRODUCER_PROP_SOCKET_TIMEOUT_MS", "10101")],
        &["KAFKA_TRANSACTION_TIMEOUT is 10s, and socket.timeout.ms"],
    );
    check_warned(&[("KAFKA_PROP_SOCKET_TIMEOUT_MS", "10100")], &[]);
    check_warned(&[("KAFKA_CONSUMER_PROP_SOCKET_TIMEOUT_MS", "60000")], &[]);
}

#[test]
fn zero_is_allowed_where_it_means_at_once() {
    let vars =
        [("WORKFLOW_RESULT_MIN_AGE", "0"), ("KAFKA_REVOKE_GRACE", "0"), ("SHUTDOWN_GRACE", "0")];

    let config = loaded(&vars);

    assert_eq!(config.dispatch.result_min_age, Duration::ZERO);
    assert_eq!(config.kafka.revoke_grace, Duration::ZERO);
    assert_eq!(config.service.shutdown_grace, Duration::ZERO);
}

#[test]
fn the_time_limit_of_a_run_may_be_bare_seconds() {
    let config = loaded(&[("WORKFLOW_EXECUTION_TIMEOUT", "90")]);

    assert_eq!(config.workflow.execution_timeout, Duration::from_secs(90));
    check_refused(
        &[("WORKFLOW_EXECUTION_TIMEOUT", "0")],
        &["WORKFLOW_EXECUTION_TIMEOUT=\"0\" is below 1s"],
    );
    check_refused(&[("SHUTDOWN_GRACE", "90")], &["SHUTDOWN_GRACE=\"90\" has no unit"]);
}

#[test]
fn the_listing_says_where_each_value_comes_from() {
    let text = loaded(&[
        ("KAFKA_SESSION_TIMEOUT", "20s"),
        ("RUST_LOG", "debug"),
        ("DOCKER_ENV", "true"),
        ("OPENAI_API_KEY", "hunter2"),
        ("KAFKA_PROP_CLIENT_ID", "x"),
        SASL[0],
        SASL[1],
        SASL[2],
    ])
    .print();

    let lines: Vec<_> = text.lines().map(|line| line.split_once(" # ").unwrap()).collect();
    let check = |line: &str, origin: &str| {
        let found = lines.iter().find(|(text, _)| text.trim_end() == line);
        assert_eq!(found.map(|(_, origin)| *origin), Some(origin), "{line}\n{text}");
    };
    check("KAFKA_SESSION_TIMEOUT=20s", "environment");
    check("KAFKA_REVOKE_GRACE=2s", "default");
    check("KAFKA_SECURITY_PROTOCOL=SASL_SSL", "environment");
    check("KAFKA_SASL_PASSWORD=[redacted]", "environment");
    check("#KAFKA_SSL_CA_LOCATION=", "not set");
    check("LOG_LEVEL=debug", "from RUST_LOG");
    check("OLLAMA_BASE_URL=http://ollama:11434", "DOCKER_ENV is true");
    check("KAFKA_PROP_CLIENT_ID=x", "environment");
}
