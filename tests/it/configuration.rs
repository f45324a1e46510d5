//! The documents written from the table of variables are current, and the example they give is valid.
//! `WEIR_UPDATE=1` writes them instead.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use weir::config;

fn check_current(path: &str, expected: &str) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("WEIR_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, expected)?;
    }

    let written = fs::read_to_string(&path).unwrap_or_default();

    assert!(
        written == expected,
        "{} is not current; WEIR_UPDATE=1 cargo test --test it configuration writes it",
        path.display()
    );
    Ok(())
}

#[test]
fn the_example_is_current() -> io::Result<()> {
    check_current("config/.env.example", &config::env_example())
}

#[test]
fn the_documentation_is_current() -> io::Result<()> {
    check_current("docs/configuration.md", &config::markdown())
}

/// Turns the example's assignments into an environment, the commented ones too.
fn example() -> Vec<(OsString, OsString)> {
    let text = config::env_example();
    let lines = text.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    lines
        .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn the_example_as_it_stands_is_the_default() {
    let (mut config, warnings) = config::load(example()).unwrap();
    let (default, _) = config::load([]).unwrap();

    config.kafka.properties = Default::default();

    assert_eq!(warnings, []);
    assert_eq!(format!("{:?}", config.kafka), format!("{:?}", default.kafka));
    assert_eq!(format!("{:?}", config.dispatch), format!("{:?}", default.dispatch));
    assert_eq!(format!("{:?}", config.workflow), format!("{:?}", default.workflow));
    assert_eq!(format!("{:?}", config.llm), format!("{:?}", default.llm));
    assert_eq!(format!("{:?}", config.admin), format!("{:?}", default.admin));
    assert_eq!(format!("{:?}", config.service), format!("{:?}", default.service));
    assert_eq!(format!("{:?}", config.telemetry), format!("{:?}", default.telemetry));
}
