//! What a server's refusal means, and what of it may be read.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use crate::llm::base_url::BaseUrl;
use crate::llm::config::Ollama;
use crate::llm::endpoint::Endpoint;
use crate::llm::error::{CLASSES, Cut, Fault, Phase};
use crate::llm::refusal::{Refusal, retry_after};
use crate::retry::Disposition;

fn base(url: &str) -> BaseUrl {
    let ollama: Ollama = serde_json::from_value(serde_json::json!({ "base_url": url })).unwrap();
    ollama.base_url.first().clone()
}

pub(super) fn refused(status: u16, body: &str) -> Fault {
    Refusal { status, body: body.as_bytes(), ..Refusal::default() }.fault()
}

/// Makes `faults` of these, and a match of them that does not compile when a variant has none.
macro_rules! faults {
    ($($variant:ident { $($field:ident: $value:expr),* }),* $(,)?) => {
        /// One fault of every kind.
        fn faults() -> Vec<Fault> {
            vec![$(Fault::$variant { $($field: $value),* }),*]
        }

        const _: fn(&Fault) = |fault| match fault {
            $(Fault::$variant { .. } => {})*
        };
    };
}

const AFTER: Option<Duration> = Some(Duration::from_secs(3));

faults! {
    Unreachable { reason: text() },
    Reset { reason: text() },
    Timeout { phase: Phase::FirstByte, after: Duration::from_secs(120) },
    ModelMissing { message: text() },
    WrongUrl { status: 404, message: text() },
    Redirected { status: 307, to: text() },
    InvalidRequest { status: 400, message: text() },
    Unauthorized { status: 401, message: text() },
    RateLimited { after: AFTER, message: text() },
    Overloaded { after: AFTER, message: text() },
    ServerError { status: 502, after: AFTER, message: text() },
    ContextOverflow { message: text() },
    Truncated { reason: text(), cut: Cut::Broken },
    BadOutput { reason: text() },
    SchemaMismatch { mistakes: text() },
    TooLarge { what: "line", limit: 9 },
}

fn text() -> String {
    "hunter2".to_owned()
}

#[test]
fn every_class_is_listed_once() {
    let classes: Vec<_> = faults().iter().map(Fault::class).collect();

    assert_eq!(classes, CLASSES);
}

#[test]
fn the_page_of_errors_says_what_is_done() {
    let page = include_str!("../../../docs/errors.md");
    for fault in faults() {
        let begin = format!("| `{}` |", fault.class());
        let row = page.lines().find(|line| line.starts_with(&begin)).unwrap();
        let said = row.split(" | ").nth(2).unwrap();

        match fault.disposition() {
            Disposition::Retry { .. } | Disposition::Elsewhere => {
                assert!(said.starts_with("retry"), "{row}")
            }
            Disposition::Reject => assert_eq!(said, "reject, `failure`", "{row}"),
            Disposition::Stop => panic!("no fault of a model ends the process: {row}"),
        }
    }
}

fn check_class(status: u16, body: &str, class: &str) {
    assert_eq!(refused(status, body).class(), class, "{status} {body}");
}

#[test]
fn a_status_makes_the_class() {
    let check = check_class;
    check(302, "", "llm.redirected");
    check(400, r#"{"error":"model is required"}"#, "llm.invalid_request");
    check(401, r#"{"error":"unauthorized"}"#, "llm.unauthorized");
    check(403, "", "llm.unauthorized");
    check(405, "405 method not allowed", "llm.wrong_url");
    check(408, "timeout", "llm.server_error");
    check(413, "too large", "llm.invalid_request");
    check(418, "", "llm.invalid_request");
    check(429, r#"{"error":"too many requests"}"#, "llm.rate_limited");
    check(500, r#"{"error":"boom"}"#, "llm.server_error");
    check(500, "", "llm.server_error");
    check(500, r#"["x"]"#, "llm.server_error");
    check(501, r#"{"error":"no embeddings here"}"#, "llm.invalid_request");
    check(502, "<html>", "llm.server_error");
    check(503, r#"{"error":"server busy"}"#, "llm.overloaded");
    check(504, "gateway timeout", "llm.server_error");
    check(529, "", "llm.overloaded");
}

#[test]
fn a_404_is_about_the_model_or_about_the_url() {
    let check = |body, class| check_class(404, body, class);
    check(r#"{"error":"model 'nope' not found"}"#, "llm.model_missing");
    check(r#"{"error":{"message":"no `x`","code":"model_not_found"}}"#, "llm.model_missing");
    check(r#"{"object":"error","message":"no model `x`","code":404}"#, "llm.model_missing");
    check("404 page not found", "llm.wrong_url");
    check(r#"{"detail":"Not Found"}"#, "llm.wrong_url");
    check(r#"{"message":"no Route matched"}"#, "llm.wrong_url");
}

#[test]
fn a_refusal_that_ends_too_early_is_taken_by_its_status_and_what_words_it_has() {
    let missing = r#"{"error":"model 'nope' not found"}"#;
    let long = r#"{"error":"the input length exceeds the context length"}"#;
    for at in 0..missing.len() {
        check_class(404, missing.get(..at).unwrap(), "llm.wrong_url");
    }
    let told = long.find("context length").unwrap() + "context length".len();
    for at in 0..long.len() {
        let class = if at < told { "llm.invalid_request" } else { "llm.context_overflow" };
        check_class(400, long.get(..at).unwrap(), class);
    }
}

#[test]
fn a_500_may_be_the_callers() {
    let check = |body, class| check_class(500, body, class);
    let option = r#"{"error":"option \"num_predict\" must be of type integer"}"#;
    check(option, "llm.invalid_request");
    check(r#"{"error":"invalid format: \"\\\"xml\\\"\"; expected"}"#, "llm.invalid_request");
    check(r#"{"error":"invalid JSON schema in format"}"#, "llm.invalid_request");
    check(r#"{"error":"model runner has unexpectedly stopped"}"#, "llm.server_error");
}

#[test]
fn an_overflow_is_told_by_its_words() {
    let check = |status, body| check_class(status, body, "llm.context_overflow");
    check(400, r#"{"error":"the input length exceeds the context length"}"#);
    check(400, r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#);
    check(400, r#"{"object":"error","message":"maximum context length is 4096","code":400}"#);
    check(400, r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error"}}"#);
    check(500, r#"{"error":"the request exceeds the available context size"}"#);
}

#[test]
fn the_servers_words_are_kept_and_its_pages_are_not() {
    let check = |status, body: &str, expected: &str| {
        assert_eq!(refused(status, body).to_string(), expected);
    };
    check(500, r#"{"error":"boom"}"#, "server error, status 500: boom");
    check(500, r#"{"error":{"message":"a\nb"}}"#, "server error, status 500: a b");
    check(500, "Internal Server Error", "server error, status 500: Internal Server Error");
    check(502, "<html><body>secret</body></html>", "server error, status 502: a page of 32 bytes");
    check(500, "", "server error, status 500: no reason given");
}

#[test]
fn the_servers_wish_is_the_disposition() {
    let after = Some(Duration::from_secs(7));
    let check = |status, expected| {
        let refusal = Refusal { status, after, ..Refusal::default() };
        assert_eq!(refusal.fault().disposition(), expected, "{status}");
    };
    check(503, Disposition::Retry { after });
    check(429, Disposition::Retry { after });
    check(500, Disposition::Retry { after });
    check(400, Disposition::Reject);
    check(401, Disposition::Reject);
}

#[test]
fn a_wish_is_seconds_or_a_date_and_at_most_an_hour() {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let check = |value, expected: Option<u64>| {
        assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value:?}");
    };
    check("0", Some(0));
    check(" 120 ", Some(120));
    check("99999", Some(3600));
    check("99999999999999999999999", Some(3600));
    check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
    check("Sun, 06 Nov 1994 08:40:00 GMT", Some(0));
    check("Mon, 06 Nov 2094 08:40:00 GMT", Some(3600));
    check("", None);
    check("soon", None);
    check("-5", None);
    check("1.5", None);
}

#[test]
fn no_error_repeats_a_secret() {
    let key = SecretString::from("hunter2");
    let endpoint = Endpoint::new(&base("http://ollama:11434"), Some(&key)).unwrap();
    for fault in faults() {
        let error = endpoint.fail(fault);

        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn a_long_story_is_cut_after_its_secrets_are_out() {
    let key = SecretString::from("hunter2");
    let endpoint = Endpoint::new(&base("http://ollama:11434"), Some(&key)).unwrap();
    let reason = format!("{}hunter2 and so on", "x".repeat(296));

    let error = endpoint.fail(Fault::Truncated { reason, cut: Cut::Broken }).to_string();

    assert!(error.ends_with("x[red ..."), "{error}");
}

#[test]
fn credentials_of_the_url_are_sent_and_not_shown() {
    let endpoint = Endpoint::new(&base("http://ada:hunter2@ollama:11434/x/"), None).unwrap();

    assert_eq!(&**endpoint.label(), "http://ollama:11434/x");
    let header = endpoint.credentials().unwrap();
    assert_eq!(header, "Basic YWRhOmh1bnRlcjI=");
    assert!(header.is_sensitive());
    assert_eq!(endpoint.url("api/generate").as_str(), "http://ollama:11434/x/api/generate");
}

#[test]
fn a_user_without_a_password_is_a_secret() {
    let url = base("https://hunter2@ollama");
    let endpoint = Endpoint::new(&url, None).unwrap();
    for fault in faults() {
        let error = endpoint.fail(fault);

        assert!(!format!("{error} {error:?} {url:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn a_key_that_is_no_header_is_refused_without_being_shown() {
    let key = SecretString::from("hunter2\n");

    let error = Endpoint::new(&base("http://ollama:11434"), Some(&key)).err().unwrap();

    assert_eq!(
        error.to_string(),
        "the API key for http://ollama:11434 holds a character that no HTTP header can carry"
    );
}

#[test]
fn this_host_is_known_by_its_names() {
    let check = |url, expected| {
        assert_eq!(Endpoint::new(&base(url), None).unwrap().is_loopback(), expected, "{url}");
    };
    check("http://localhost:11434", true);
    check("http://a.localhost", true);
    check("http://127.3.2.1", true);
    check("http://[::1]:1", true);
    check("http://ollama", false);
    check("http://10.0.0.1", false);
    check("http://[fe80::1]", false);
}
