//! What no single value shows: rules between variables.
//!
//! A rule that involves a value with a problem of its own says nothing; the first problem is enough.

use std::time::Duration;

use super::load::Values;
use super::problem::Findings;
use super::{Config, table};
use crate::llm::BaseUrl;

/// Above this a crashed instance stalls the readers of the results for too long to be meant.
const TRANSACTION_LONG: Duration = Duration::from_secs(60);

/// Checks all rules.
pub(super) fn all(config: &Config, values: &Values, findings: &mut Findings) {
    let faulty = findings.problems.iter().map(|problem| problem.variable.clone()).collect();
    let mut rules = Rules { config, values, faulty, findings };
    rules.topics();
    rules.sasl();
    rules.tls();
    rules.files();
    rules.group();
    rules.transactions();
    rules.work();
    rules.servers_of_the_model();
    rules.deadlines_of_the_model();
    rules.rests_of_the_model();
}

struct Rules<'a> {
    config: &'a Config,
    values: &'a Values,
    /// The variables that have a problem of their own.
    faulty: Vec<String>,
    findings: &'a mut Findings,
}

impl Rules<'_> {
    fn topics(&mut self) {
        let kafka = &self.config.kafka;
        let topics = [
            ("KAFKA_WORKFLOW_EVENTS_TOPIC", kafka.workflow_events_topic.clone()),
            ("KAFKA_WORKFLOW_RESULTS_TOPIC", kafka.workflow_results_topic.clone()),
            ("KAFKA_DLQ_TOPIC", kafka.dlq_topic.clone()),
            ("KAFKA_JOURNAL_TOPIC", kafka.journal_topic.clone()),
        ];
        for (i, (name, topic)) in topics.iter().enumerate() {
            for (other, taken) in topics.iter().take(i) {
                // Kafka's metrics write a dot as an underscore, so it lets only one of the two exist.
                if topic.replace('.', "_") == taken.replace('.', "_") {
                    let reason = format!("makes {name} ({topic}) and {other} ({taken}) one topic");
                    self.refuse(&[*name, *other], reason, "give each its own topic");
                }
            }
        }
    }

    fn sasl(&mut self) {
        const PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL";
        let kafka = &self.config.kafka;
        let names = ["KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"];
        let protocol = kafka.security_protocol;
        if !protocol.is_sasl() {
            for name in names {
                if !self.asks_for_something(name) {
                    continue;
                }
                let reason = format!("has no effect: {PROTOCOL} is {}", protocol.as_str());
                let remedy =
                    "set KAFKA_SECURITY_PROTOCOL to sasl_ssl or sasl_plaintext, or remove it";
                self.refuse(&[name, PROTOCOL], reason, remedy);
            }
            return;
        }
        let missing = [
            ("KAFKA_SASL_USERNAME", kafka.sasl_username.is_none(), "set it"),
            (
                "KAFKA_SASL_PASSWORD",
                kafka.sasl_password.is_none(),
                "set it or KAFKA_SASL_PASSWORD_FILE",
            ),
        ];
        for (name, missing, remedy) in missing {
            if missing {
                let reason = format!("asks for {name}, which is not set");
                self.refuse(&[PROTOCOL, name], reason, remedy);
            }
        }
        if !protocol.is_tls() && self.config.kafka.sasl_mechanism.as_str() == "PLAIN" {
            self.findings.warn(
                "KAFKA_SASL_MECHANISM",
                "PLAIN sends the password readable without TLS; sasl_ssl or SCRAM-SHA-512 does not",
            );
        }
    }

    fn tls(&mut self) {
        const PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL";
        const CERTIFICATE: &str = "KAFKA_SSL_CERTIFICATE_LOCATION";
        const KEY: &str = "KAFKA_SSL_KEY_LOCATION";
        const PASSWORD: &str = "KAFKA_SSL_KEY_PASSWORD";
        let protocol = self.config.kafka.security_protocol;
        if !protocol.is_tls() {
            for name in ["KAFKA_SSL_CA_LOCATION", CERTIFICATE, KEY, PASSWORD] {
                if self.values.contains_key(name) {
                    let reason = format!("has no effect: {PROTOCOL} is {}", protocol.as_str());
                    let remedy = "set KAFKA_SECURITY_PROTOCOL to ssl or sasl_ssl, or remove it";
                    self.refuse(&[name, PROTOCOL], reason, remedy);
                }
            }
            return;
        }
        for (name, needs) in [(CERTIFICATE, KEY), (KEY, CERTIFICATE), (PASSWORD, KEY)] {
            if self.values.contains_key(name) && !self.values.contains_key(needs) {
                let reason = format!("is set without {needs}");
                self.refuse(&[name, needs], reason, "set both or neither");
            }
        }
    }

    fn files(&mut self) {
        let kafka = &self.config.kafka;
        let files = [
            ("KAFKA_SSL_CA_LOCATION", kafka.ssl_ca_location.clone()),
            ("KAFKA_SSL_CERTIFICATE_LOCATION", kafka.ssl_certificate_location.clone()),
            ("KAFKA_SSL_KEY_LOCATION", kafka.ssl_key_location.clone()),
        ];
        for (name, path) in files {
            let Some(path) = path.filter(|path| path != "probe") else {
                continue;
            };
            if let Err(error) = std::fs::metadata(path) {
                let reason = format!("names a file that can't be read: {error}");
                self.refuse(
                    &[name],
                    reason,
                    "name a file that exists and that weir's user may read",
                );
            }
        }
    }

    fn group(&mut self) {
        let kafka = &self.config.kafka;
        let (session, grace) = (kafka.session_timeout, kafka.revoke_grace);
        if grace >= session {
            let reason = format!(
                "makes KAFKA_REVOKE_GRACE ({}) no shorter than KAFKA_SESSION_TIMEOUT ({})",
                humantime::format_duration(grace),
                humantime::format_duration(session),
            );
            let names = ["KAFKA_REVOKE_GRACE", "KAFKA_SESSION_TIMEOUT"];
            self.refuse(&names, reason, "keep the grace below the session time-out");
        }
        if kafka.group_protocol.as_str() != "consumer" {
            return;
        }
        if kafka.static_membership {
            let names = ["KAFKA_STATIC_MEMBERSHIP", "KAFKA_GROUP_PROTOCOL"];
            let reason =
                "needs the classic protocol, and KAFKA_GROUP_PROTOCOL is consumer".to_owned();
            self.refuse(&names, reason, "set KAFKA_GROUP_PROTOCOL=classic, or remove one of them");
        }
        if self.values.contains_key("KAFKA_SESSION_TIMEOUT") {
            self.findings.warn(
                "KAFKA_SESSION_TIMEOUT",
                "has no effect with KAFKA_GROUP_PROTOCOL=consumer: the broker decides, 45s by default",
            );
        }
    }

    fn transactions(&mut self) {
        let kafka = &self.config.kafka;
        if kafka.enable_auto_commit {
            self.findings.warn(
                "KAFKA_ENABLE_AUTO_COMMIT",
                "has no effect: an offset is committed in the transaction that makes its result visible",
            );
        }
        let timeout = kafka.transaction_timeout;
        if timeout > TRANSACTION_LONG {
            self.findings.warn(
                "KAFKA_TRANSACTION_TIMEOUT",
                format!(
                    "an instance that crashes and does not come back stalls all readers of the results \
                     for {} and more",
                    humantime::format_duration(timeout)
                ),
            );
        }
        // librdkafka's own rule; a client with a longer one is not created.
        let sides = [&kafka.properties.producer, &kafka.properties.common];
        let socket = sides.iter().find_map(|side| side.get("socket.timeout.ms"));
        let socket = socket.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        if socket.is_some_and(|socket| socket > timeout + Duration::from_millis(100)) {
            let reason = format!(
                "is {}, and socket.timeout.ms among the librdkafka properties is longer",
                humantime::format_duration(timeout)
            );
            let remedy = "keep socket.timeout.ms at or below it";
            self.refuse(&["KAFKA_TRANSACTION_TIMEOUT"], reason, remedy);
        }
    }

    fn work(&mut self) {
        let dispatch = &self.config.dispatch;
        let (base, max) = (dispatch.retry_base, dispatch.retry_max);
        if base > max {
            let reason = format!(
                "makes WORKFLOW_RETRY_BASE ({}) longer than WORKFLOW_RETRY_MAX ({})",
                humantime::format_duration(base),
                humantime::format_duration(max),
            );
            let names = ["WORKFLOW_RETRY_BASE", "WORKFLOW_RETRY_MAX"];
            self.refuse(&names, reason, "keep the base at or below the maximum");
        }
        let grace = self.config.service.shutdown_grace;
        if self.values.contains_key("WORKFLOW_RESULT_MIN_AGE") && dispatch.result_min_age > grace {
            self.findings.warn(
                "WORKFLOW_RESULT_MIN_AGE",
                "is longer than SHUTDOWN_GRACE: a drain leaves finished results to the next owner",
            );
        }
    }

    fn servers_of_the_model(&mut self) {
        let (ollama, openai) = (&self.config.llm.ollama, &self.config.llm.openai);
        let servers = [
            ("OLLAMA_BASE_URL", &ollama.base_url, "OLLAMA_API_KEY"),
            ("OPENAI_BASE_URL", &openai.base_url, "OPENAI_API_KEY"),
        ];
        for (name, urls, key) in servers {
            let has_key = self.values.contains_key(key);
            if has_key && urls.iter().all(|url| url.login().is_some()) {
                let reason = format!("is set, and {name} holds credentials too");
                self.refuse(&[key, name], reason, "remove one: a request carries one of them");
            }
            if urls.iter().any(|url| url.is_open() && (has_key || url.login().is_some())) {
                let message = "sends its credentials readable over the network; https does not";
                self.findings.warn(name, message);
            }
        }
        let mut bases = ollama.base_url.iter().map(BaseUrl::as_str);
        if bases.any(|base| base.ends_with("/api") || base.ends_with("/v1")) {
            self.findings.warn(
                "OLLAMA_BASE_URL",
                "ends in the API's own path, which weir appends itself; leave it out",
            );
        }
    }

    fn rests_of_the_model(&mut self) {
        let llm = &self.config.llm;
        let (rest, max) = (llm.breaker_rest, llm.breaker_rest_max);
        if rest > max {
            let reason = format!(
                "makes LLM_BREAKER_REST ({}) longer than LLM_BREAKER_REST_MAX ({})",
                humantime::format_duration(rest),
                humantime::format_duration(max),
            );
            let names = ["LLM_BREAKER_REST", "LLM_BREAKER_REST_MAX"];
            self.refuse(&names, reason, "keep the first rest at or below the longest");
        }
        if llm.fallback_provider == Some(llm.provider) {
            let message = "has no effect: it is the provider that is asked anyway";
            self.findings.warn("LLM_FALLBACK_PROVIDER", message);
        }
    }

    fn deadlines_of_the_model(&mut self) {
        let llm = &self.config.llm;
        let phases = [
            ("LLM_CONNECT_TIMEOUT", llm.connect_timeout),
            ("LLM_FIRST_BYTE_TIMEOUT", llm.first_byte_timeout),
            ("LLM_IDLE_TIMEOUT", llm.idle_timeout),
        ];
        for (name, phase) in phases {
            if self.values.contains_key(name) && phase > llm.total_timeout {
                self.findings.warn(name, "is never reached: LLM_TOTAL_TIMEOUT is shorter");
            }
        }
    }

    /// Returns whether `name` is set to anything but its default.
    fn asks_for_something(&self, name: &str) -> bool {
        let default = table::variables().find(|variable| variable.name == name);
        let given = self.values.get(name);
        given.is_some_and(|given| default.is_none_or(|variable| variable.default != given.text))
    }

    /// Notes a problem between `names`, at the first of them that is set.
    fn refuse(&mut self, names: &[&str], reason: String, remedy: &str) {
        let same =
            |fault: &String, name: &str| fault.strip_suffix("_FILE").unwrap_or(fault) == name;
        if self.faulty.iter().any(|fault| names.iter().any(|name| same(fault, name))) {
            return;
        }
        let set = |name: &&&str| self.values.contains_key(**name);
        if let Some(name) = names.iter().find(set).or_else(|| names.first()) {
            let value = self.values.get(name).map(|given| given.shown.as_str());
            self.findings.refuse(name, value, (reason, remedy.to_owned()));
        }
    }
}
