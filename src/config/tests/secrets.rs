//! Secrets come from files as well, and are shown nowhere.

use secrecy::ExposeSecret as _;

use super::*;

const SECRETS: [&str; 4] =
    ["KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD", "OLLAMA_API_KEY", "OPENAI_API_KEY"];

/// Loads with one secret in a file that holds `content`.
fn with_file(content: &[u8]) -> Result<String, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.path().to_str().unwrap();
    let (config, _) = try_load(&[("OLLAMA_API_KEY_FILE", path)]).map_err(|p| p.to_string())?;
    Ok(config.llm.ollama.api_key.unwrap().expose_secret().to_owned())
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let check = |content: &[u8], expected: Result<&str, &str>| match (with_file(content), expected)
    {
        (Ok(secret), expected) => assert_eq!(Ok(secret.as_str()), expected),
        (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
        (Err(problem), Ok(_)) => panic!("{problem}"),
    };
    check(b"hunter2", Ok("hunter2"));
    check(b"hunter2\n", Ok("hunter2"));
    check(b"hunter2\r\n", Ok("hunter2"));
    check(b" hunter2 \n", Ok(" hunter2 "));
    check(b"hunter2\n\n", Err("contains a control character"));
    check(b"", Err("names an empty file"));
    check(b"\n", Err("names an empty file"));
    check(b"\xff", Err("can't be read: stream did not contain valid UTF-8"));
    check(&[b'x'; 65_536], Ok(&"x".repeat(65_536)));
    check(&[b'x'; 65_537], Err("names a file of more than 65536 bytes"));
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_reason() {
    for name in SECRETS {
        let file = format!("{name}_FILE");
        let expected = format!("{file}=\"/none\" names a file that can't be read: No such file");
        check_refused(&[(&file, "/none")], &[&expected]);
    }
    check_refused(
        &[("OLLAMA_API_KEY_FILE", "/")],
        &["OLLAMA_API_KEY_FILE=\"/\" names a file that"],
    );
    check_refused(
        &[("OLLAMA_API_KEY_FILE", "/dev/zero")],
        &["OLLAMA_API_KEY_FILE=\"/dev/zero\" names"],
    );
    check_warned(&[("OLLAMA_API_KEY_FILE", "")], &[]);
}

#[test]
fn an_unreadable_password_is_not_also_missing() {
    check_refused(
        &[
            ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
            ("KAFKA_SASL_USERNAME", "ada"),
            ("KAFKA_SASL_PASSWORD_FILE", "/none"),
        ],
        &["KAFKA_SASL_PASSWORD_FILE=\"/none\" names"],
    );
}

#[test]
fn a_secret_comes_from_one_place() {
    for name in SECRETS {
        let file = format!("{name}_FILE");
        let expected = format!("{file}=\"/none\" is set, and so is {name}; remove one of them");
        check_refused(&[(&file, "/none"), (name, "hunter2")], &[&expected]);
    }
}

#[test]
fn a_secret_is_taken_as_it_is() {
    let config = loaded(&[("OLLAMA_API_KEY", " hunter2 ")]);

    assert_eq!(config.llm.ollama.api_key.unwrap().expose_secret(), " hunter2 ");
}

/// Asserts that nothing which can be printed holds the secret.
#[track_caller]
fn check_hidden(vars: Vars<'_>) {
    let texts = match try_load(vars) {
        Ok((config, warnings)) => {
            let settings = format!("{:?}", config.settings());
            vec![format!("{config:?}"), config.print(), settings, format!("{warnings:?}")]
        }
        Err(problems) => vec![format!("{problems:?}"), problems.to_string()],
    };
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    check_hidden(&[
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_USERNAME", "ada"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("OLLAMA_API_KEY", "hunter2"),
        ("OPENAI_API_KEY", "hunter2"),
        ("OPENAI_BASE_URL", "http://host/v1"),
        ("KAFKA_PROP_SSL_KEYSTORE_PASSWORD", "hunter2"),
        ("KAFKA_PROP_SSL_KEY_PEM", "hunter2"),
        ("KAFKA_PRODUCER_PROP_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"),
        ("KAFKA_CONSUMER_PROP_SASL_OAUTHBEARER_CONFIG", "principal=hunter2"),
    ]);
    check_hidden(&[("KAFKA_SASL_PASSWORD", "hunter2"), ("KAFKA_SSL_KEY_PASSWORD", "hunter2")]);
    check_hidden(&[
        ("KAFKA_PROP_SASL_PASSWORD", "hunter2"),
        ("KAFKA_PROP_SSL_KEY_PASSWORD", "hunter2"),
    ]);
    check_hidden(&[("OLLAMA_API_KEYS", "hunter2")]);
    for url in [
        "http://ada:hunter2@host",
        "ada:hunter2@host",
        "ftp://ada:hunter2@host",
        "http://ada:hunter2@",
        "http://ada:hunter2@ho st",
        "http://ada:x/hunter2@host:0",
        "//hunter2@h",
    ] {
        check_hidden(&[("OLLAMA_BASE_URL", url)]);
        check_hidden(&[("OPENAI_BASE_URL", url)]);
        check_hidden(&[("OPENAI_API_BASE", url)]);
        check_hidden(&[("OLLAMA_BASE_URL", url), ("OLLAMA_API_KEY", "hunter2")]);
    }
    check_hidden(&[("KAFKA_BOOTSTRAP_SERVERS", "ssl://ada:hunter2@kafka:9092")]);
}

#[test]
fn a_long_value_is_not_repeated_in_full() {
    let problems = problems(&[("OLLAMA_BASE_URL", &"é ".repeat(100_000))]);

    assert!(problems[0].len() < 1000, "{}", problems[0].len());
}
