//! One value at a time.

use secrecy::ExposeSecret as _;

use super::super::kind::Kind;
use super::*;
use crate::llm::BaseUrl;

#[test]
fn values_are_read_in_every_spelling_allowed() {
    let check = |kind: Kind, text: &str, expected: Result<&str, &str>| {
        let result = kind.normalise(text);
        assert_eq!(result.as_deref().map_err(String::as_str), expected, "{text:?}");
    };
    let second = Kind::Duration("0s", "1m");
    check(second, "0", Ok("0s"));
    check(second, "0s", Ok("0s"));
    check(second, "0 m 30 s", Ok("30s"));
    check(second, "1m", Ok("1m"));
    check(second, "90", Err("has no unit"));
    check(second, "0.5", Err("has no unit"));
    check(second, "-1s", Err("is no duration"));
    check(second, "1 fortnight", Err("is no duration"));
    check(second, "61s", Err("is above 1m"));
    let seconds = Kind::Seconds("1s", "24h");
    check(seconds, "300", Ok("5m"));
    check(seconds, "5m", Ok("5m"));
    check(seconds, "0", Err("is below 1s"));
    check(seconds, "86401", Err("is above 24h"));
    check(seconds, "18446744073709551615", Err("is above 24h"));
    check(seconds, "300.5", Err("has no unit"));
    let size = Kind::Size("1KiB", "1MiB");
    check(size, "1 MiB", Ok("1048576"));
    check(size, "2000", Ok("2000"));
    check(size, "1MB", Ok("1000000"));
    check(size, "1023", Err("is below 1KiB"));
    check(size, "much", Err("is no size"));
    check(Kind::Switch, "True", Ok("true"));
    check(Kind::Switch, "1", Err("is none of the words allowed"));
    check(Kind::Ignored, "TRUE", Ok("true"));
    check(Kind::Ignored, "1", Ok("false"));
    check(Kind::Choice(&["key"]), "Key", Err("is none of the words allowed"));
    check(Kind::ChoiceAnyCase(&["PLAIN"]), "Plain", Ok("PLAIN"));
    check(Kind::Count(1, 9), "1.0", Err("is no whole number"));
    check(Kind::Count(1, 9), "99999999999999999999", Err("is no whole number"));
    check(Kind::Number(0.0, 2.0), "inf", Err("is above 2"));
    check(Kind::Text, "a\nb", Err("contains a control character"));
    check(Kind::Level, "INFO, weir::llm=debug", Ok("info,weir::llm=debug"));
    check(Kind::Level, "warning", Err("has a word that is no level"));
}

#[test]
fn names_are_those_that_kafka_takes() {
    let check = |text: &str, legal: bool| {
        assert_eq!(Kind::Name.normalise(text).is_ok(), legal, "{text:?}");
    };
    check("a.B_c-9", true);
    check("...", true);
    check(".", false);
    check("..", false);
    check("a b", false);
    check("a/b", false);
    check("größe", false);
    check(&"x".repeat(249), true);
    check(&"x".repeat(250), false);
}

#[test]
fn servers_have_a_host_and_a_port() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(Kind::Servers.normalise(text).ok().as_deref(), expected, "{text:?}");
    };
    check("kafka:9092", Some("kafka:9092"));
    check("a:1, b_2.c-d.:65535", Some("a:1,b_2.c-d.:65535"));
    check("127.0.0.1:9092,[::1]:9092", Some("127.0.0.1:9092,[::1]:9092"));
    check("kafka", None);
    check("kafka:", None);
    check(":9092", None);
    check("kafka:0", None);
    check("kafka:65536", None);
    check("kafka:+1", None);
    check("kafka:9092,", None);
    check("::1:9092", None);
    check("[kafka]:9092", None);
    check("SSL://kafka:9092", None);
    check("ka fka:9092", None);
}

#[test]
fn the_url_of_ollama_is_read_as_the_originals_client_reads_it() {
    let check = |text: &str, expected: &str| {
        let config = loaded(&[("OLLAMA_BASE_URL", text)]);
        assert_eq!(config.llm.ollama.base_url.first().as_str(), expected, "{text:?}");
    };
    check("http://host:11434/", "http://host:11434");
    check("host", "http://host:11434");
    check("host:80", "http://host");
    check("host:8080/prefix/", "http://host:8080/prefix");
    check("host/prefix", "http://host:11434/prefix");
    check("http://host", "http://host");
    check("HTTPS://Host/a/b//", "https://host/a/b");
    check("[::1]", "http://[::1]:11434");
    check("[::1]:1234", "http://[::1]:1234");
    check("  http://host  ", "http://host");
    check("user:pw@host", "http://host:11434");
}

#[test]
fn what_is_no_url_is_refused() {
    let check = |text: &str| {
        check_refused(&[("OLLAMA_BASE_URL", text)], &["OLLAMA_BASE_URL="]);
    };
    for text in [
        "not a url",
        "ftp://host",
        "http://",
        "http:///path",
        "http://host:99999",
        "host:port",
        "http://host:0",
        "http://host?q=1",
        "http://host#f",
        "http:host",
        "host?x",
        "http://a\\b",
        "http://a,",
        ",http://a",
        "http://a,http://a/",
        "http://ho\tst",
        "http://1.2.3.4.5",
        "http://[::1",
        "/",
        "?",
        "http://user:pw@",
        "http://%ff@host",
    ] {
        check(text);
    }
    check_refused(
        &[("OPENAI_BASE_URL", "host/v1")],
        &["OPENAI_BASE_URL=\"host/v1\" has no scheme"],
    );
    check_refused(&[("OPENAI_API_BASE", "ftp://h")], &["OPENAI_API_BASE=\"ftp://h\" has a scheme"]);
}

#[test]
fn several_urls_are_separated_by_commas() {
    let check = |text: &str, expected: &[&str]| {
        let urls = loaded(&[("OLLAMA_BASE_URL", text)]).llm.ollama.base_url;
        let urls: Vec<_> = urls.iter().map(BaseUrl::as_str).collect();
        assert_eq!(urls, expected, "{text:?}");
    };
    check("a,b:80", &["http://a:11434", "http://b"]);
    check("http://a:1 , https://u:p@b/x", &["http://a:1", "https://b/x"]);
    check("https://u:p%2C@a,https://:t@b", &["https://a", "https://b"]);

    let refused = |text: &str, shown: &str, reason: &str| {
        let expected = format!("OLLAMA_BASE_URL=\"{shown}\" {reason}");
        check_refused(&[("OLLAMA_BASE_URL", text)], &[&expected]);
    };
    refused("a,http://", "a,http://", "entry 2 has no host");
    refused("a,b,", "a,b,", "entry 3 is empty");
    refused("a,b,http://a:11434", "a,b,http://a:11434", "entry 3 repeats entry 1");
    refused("http://a,u:hunter2@b", "[redacted]@b", "entry 2 holds credentials and has no scheme");
    refused("http://u:hun,ter2@b", "[redacted]@b", "entry 1 is no URL: invalid port number");
    refused(
        "http://u:hunter2@a,https://:hunter3@b?x",
        "http://[redacted]@a,https://[redacted]@b?x",
        "entry 2 has a query",
    );
}

#[test]
fn credentials_in_a_url_become_a_login() {
    let check = |text: &str, expected: Option<(&str, &str)>| {
        let config = loaded(&[("OLLAMA_BASE_URL", text)]);
        let login = config.llm.ollama.base_url.first().login();
        let login = login.map(|login| (login.user.expose_secret(), login.password.expose_secret()));
        assert_eq!(login, expected, "{text:?}");
    };
    check("http://host", None);
    check("https://ada:pw@host", Some(("ada", "pw")));
    check("ada:p%40w%C3%A9%2@host", Some(("ada", "p@wé%2")));
    check("https://ada@host", Some(("ada", "")));
    check("https://:pw@host", Some(("", "pw")));
    check("https://a:b@c@host", Some(("a", "b@c")));
}
