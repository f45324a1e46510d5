//! From the environment to the structs.
//!
//! Each value is read by itself first: envy stops at the first error, and its errors about durations and
//! words don't say which variable they mean.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;

use serde::de::DeserializeOwned;

use super::kind::Kind;
use super::problem::{Findings, Problems, Warning};
use super::property::{self, Side};
use super::table::{self, Group, Section, Variable};
use super::{Config, Origin, Setting, check, near};
use crate::kafka;

/// Stands where a secret would be shown.
const REDACTED: &str = "[redacted]";

/// The longest secret that is read from a file, in bytes; a path like `/dev/zero` has no end.
const SECRET_MAX: u64 = 64 * 1024;

/// The longest value that a problem repeats, in characters.
const SHOWN_MAX: usize = 200;

/// What was set, by name, as it was found.
type Found = BTreeMap<String, String>;

/// What was set and is well-formed, by the name of the variable that it counts for.
pub(super) type Values = BTreeMap<&'static str, Given>;

/// A well-formed value.
#[derive(Clone)]
pub(super) struct Given {
    /// In the spelling that the structs read.
    pub text: String,
    /// As it was set, secrets redacted.
    pub shown: String,
    pub origin: Origin,
    /// The variable that it was set by.
    pub source: &'static str,
}

/// Reads the configuration from an environment, which the caller takes from the process.
///
/// An empty variable counts as not set, and so does one of blanks. Names that are not weir's are passed
/// over, with a warning when they are a slip away from one that is.
///
/// # Errors
/// Every problem at once; nothing was connected to. Secrets stand in none of them.
pub fn load(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Config, Vec<Warning>), Problems> {
    let mut findings = Findings::default();
    let found = gather(vars, &mut findings);
    let mut values = values(&found, &mut findings);
    derive(&mut values, &mut findings);
    let mut config = read(&values, &mut findings);
    let properties = hand_through(&found, &mut config, &mut findings);
    check::all(&config, &values, &mut findings);
    config.settings = settings(&values).chain(properties).collect();
    findings.into_result().map(|warnings| (config, warnings))
}

/// Takes what is ours.
fn gather(vars: impl IntoIterator<Item = (OsString, OsString)>, findings: &mut Findings) -> Found {
    let mut found = Found::new();
    for (name, value) in vars {
        // A name that is no text is none of ours, and an empty value is no value.
        let Some(name) = name.to_str().filter(|_| !value.is_empty()) else {
            continue;
        };
        let ours = property::split(name).is_some()
            || table::variables().any(|v| v.name == name || v.file().as_deref() == Some(name));
        if !ours {
            if let Some(meant) = near::meant(name) {
                findings
                    .warn(name, format!("is no variable of weir's and is not read; {meant} is"));
            }
            continue;
        }
        match value.into_string() {
            // As getenv: of two with one name the first counts.
            Ok(text) => {
                found.entry(name.to_owned()).or_insert(text);
            }
            Err(_) => {
                let why = ("is not UTF-8".to_owned(), "set it to a text in UTF-8".to_owned());
                findings.refuse(name, None, why);
            }
        }
    }
    found
}

fn values(found: &Found, findings: &mut Findings) -> Values {
    let mut values = Values::new();
    for variable in table::variables() {
        let given = if variable.kind == Kind::Secret {
            secret(variable, found, findings)
        } else {
            found.get(variable.name).map(|text| (text.trim().to_owned(), Origin::Environment))
        };
        let Some((text, origin)) = given.filter(|(text, _)| !text.is_empty()) else {
            continue;
        };
        let shown = shown(variable, &text);
        match variable.kind.normalise(&text) {
            Ok(text) => {
                let given = Given { text, shown, origin, source: variable.name };
                values.insert(variable.name, given);
            }
            Err(reason) => {
                findings.refuse(variable.name, Some(&shown), (reason, variable.remedy()))
            }
        }
    }
    values
}

/// Returns a secret, which stands in its variable or in the file that its `_FILE` names.
fn secret(variable: &Variable, found: &Found, findings: &mut Findings) -> Option<(String, Origin)> {
    let own = found.get(variable.name);
    let file = variable.file()?;
    let Some(path) = found.get(&file).filter(|path| !path.trim().is_empty()) else {
        return own.map(|text| (text.clone(), Origin::Environment));
    };
    if own.is_some() {
        let why = (format!("is set, and so is {}", variable.name), "remove one of them".to_owned());
        findings.refuse(&file, Some(path), why);
        return None;
    }
    match read_secret(path) {
        Ok(text) => Some((text, Origin::File(path.clone()))),
        Err(reason) => {
            let remedy = format!("name a file that holds nothing but {}", variable.name);
            findings.refuse(&file, Some(path), (reason, remedy));
            None
        }
    }
}

fn read_secret(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map(|file| file.take(SECRET_MAX + 1));
    file.and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|error| format!("names a file that can't be read: {error}"))?;
    // Editors and `echo` end the last line; the secret does not contain it.
    let line = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    match line.len() {
        0 => Err("names an empty file".to_owned()),
        len if u64::try_from(len).is_ok_and(|len| len <= SECRET_MAX) => Ok(line.to_owned()),
        _ => Err(format!("names a file of more than {SECRET_MAX} bytes")),
    }
}

/// Lets variables speak for others.
fn derive(values: &mut Values, findings: &mut Findings) {
    if let Some(alias) = values.get("OPENAI_API_BASE").cloned() {
        match values.get("OPENAI_BASE_URL") {
            Some(base) if base.text != alias.text => {
                findings.warn(
                    "OPENAI_API_BASE",
                    "is not read, as OPENAI_BASE_URL is set to another URL",
                );
            }
            Some(_) => {}
            None => {
                let given = Given { origin: Origin::Derived("from OPENAI_API_BASE"), ..alias };
                values.insert("OPENAI_BASE_URL", given);
            }
        }
    }
    if let Some(filter) = values.get("RUST_LOG").cloned() {
        values.insert("LOG_LEVEL", Given { origin: Origin::Derived("from RUST_LOG"), ..filter });
    }
    let docker = values.get("DOCKER_ENV").is_some_and(|given| given.text == "true");
    if docker && !values.contains_key("OLLAMA_BASE_URL") {
        values.insert(
            "OLLAMA_BASE_URL",
            Given::derived("DOCKER_ENV", "http://ollama:11434", "DOCKER_ENV is true"),
        );
    }
    let provider = values.get("LLM_PROVIDER").map(|given| given.text.clone());
    let key = values.contains_key("OPENAI_API_KEY") || findings.has_refused("OPENAI_API_KEY");
    match provider.as_deref() {
        Some("openai" | "auto") if !key && !values.contains_key("OPENAI_BASE_URL") => {
            let message = "asks Ollama, as neither OPENAI_API_KEY nor OPENAI_BASE_URL is set";
            findings.warn("LLM_PROVIDER", message);
            values.insert("LLM_PROVIDER", Given::derived("LLM_PROVIDER", "ollama", "no OPENAI_API_KEY"));
        }
        None if key && !findings.has_refused("LLM_PROVIDER") => findings.warn(
            "OPENAI_API_KEY",
            "is not used, as LLM_PROVIDER is not set and Ollama is asked; LLM_PROVIDER=openai uses it",
        ),
        Some(_) | None => {}
    }
}

fn read(values: &Values, findings: &mut Findings) -> Config {
    let mut config = Config::default();
    for group in table::TABLE {
        match group.section {
            Section::Kafka => config.kafka = section(group, values, findings),
            Section::Dispatch => config.dispatch = section(group, values, findings),
            Section::Workflow => config.workflow = section(group, values, findings),
            // The two structs inside it come after it in the table.
            Section::Llm => config.llm = section(group, values, findings),
            Section::Ollama => config.llm.ollama = section(group, values, findings),
            Section::OpenAi => config.llm.openai = section(group, values, findings),
            Section::Admin => config.admin = section(group, values, findings),
            Section::Service => config.service = section(group, values, findings),
            Section::Telemetry => config.telemetry = section(group, values, findings),
        }
    }
    config
}

/// Reads one struct; a value that it refuses becomes a problem and its field keeps the default.
fn section<T>(group: &Group, values: &Values, findings: &mut Findings) -> T
where
    T: DeserializeOwned + Default,
{
    let mut sound = Vec::new();
    for variable in group.variables {
        let Some(given) = values.get(variable.name) else {
            continue;
        };
        let field = (group.field(variable), given.text.clone());
        match envy::from_iter::<_, T>([field.clone()]) {
            Ok(_) => sound.push(field),
            Err(error) => {
                // Our own words: what envy itself would refuse was refused by its kind.
                let reason = match error {
                    envy::Error::Custom(reason) => reason,
                    envy::Error::MissingValue(_) => "is incomplete".to_owned(),
                };
                findings.refuse(given.source, Some(&given.shown), (reason, variable.remedy()));
            }
        }
    }
    // Fields don't depend on one another, so what was read one by one is read together.
    envy::from_iter(sound).unwrap_or_default()
}

/// Hands librdkafka properties through, and returns them as settings.
fn hand_through(found: &Found, config: &mut Config, findings: &mut Findings) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (variable, text) in found {
        let Some((side, name)) = property::split(variable) else {
            continue;
        };
        let Some(property) = property::decode(name) else {
            let reason = "names no librdkafka property".to_owned();
            let remedy = "write _ for a dot, __ for an underscore and ___ for a hyphen".to_owned();
            findings.refuse(variable, None, (reason, remedy));
            continue;
        };
        let secret = kafka::Config::is_secret_property(&property);
        let shown = if secret { REDACTED.to_owned() } else { cut(text) };
        if let Some(instead) = property::instead(&property) {
            let reason = format!("names {property}, which weir sets itself");
            findings.refuse(variable, Some(&shown), (reason, instead.to_owned()));
            continue;
        }
        let properties = &mut config.kafka.properties;
        let properties = match side {
            Side::Common => &mut properties.common,
            Side::Consumer => &mut properties.consumer,
            Side::Producer => &mut properties.producer,
        };
        if properties.insert(property.clone(), text.clone()).is_some() {
            let reason = format!("names {property}, as another variable does");
            findings.refuse(variable, Some(&shown), (reason, "remove one of them".to_owned()));
        }
        let variable = variable.clone();
        settings.push(Setting { variable, value: shown, origin: Origin::Environment });
    }
    settings
}

fn settings(values: &Values) -> impl Iterator<Item = Setting> {
    table::variables().map(|variable| {
        let (value, origin) = match values.get(variable.name) {
            Some(given) => (given.shown.clone(), given.origin.clone()),
            None => (variable.default.to_owned(), Origin::Default),
        };
        Setting { variable: variable.name.to_owned(), value, origin }
    })
}

impl Given {
    fn derived(source: &'static str, text: &'static str, reason: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            shown: text.to_owned(),
            origin: Origin::Derived(reason),
            source,
        }
    }
}

/// Returns a variable's `text` as it may be shown: no secret, no credentials in a URL, not without end.
fn shown(variable: &Variable, text: &str) -> String {
    if variable.kind == Kind::Secret {
        return REDACTED.to_owned();
    }
    // Also where no URL belongs, as somebody may have put one there.
    if text.contains('@') && (variable.kind == Kind::Urls || text.contains("://")) {
        cut(&without_credentials(text))
    } else {
        cut(text)
    }
}

/// Returns URLs that are separated by commas without what stands before each `@`.
fn without_credentials(text: &str) -> String {
    let mut shown = String::new();
    for entry in text.split(',') {
        let Some((before, host)) = entry.rsplit_once('@') else {
            let comma = if shown.is_empty() { "" } else { "," };
            shown = format!("{shown}{comma}{entry}");
            continue;
        };
        shown = match before.split_once("://") {
            Some((scheme, _)) if shown.is_empty() => format!("{scheme}://{REDACTED}@{host}"),
            Some((scheme, _)) => format!("{shown},{scheme}://{REDACTED}@{host}"),
            // What stands before may be the beginning of a password with a comma in it.
            None => format!("{REDACTED}@{host}"),
        };
    }
    shown
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
