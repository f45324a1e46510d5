//! What a value looks like: its form, its range, and what to say when it is neither.
//!
//! A value is brought into the one spelling that the structs read, so that every lenience stands here.

use std::net::Ipv6Addr;
use std::time::Duration;

use bytesize::ByteSize;

/// The form of a value. Bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Any text without control characters.
    Text,
    /// What Kafka takes as the name of a topic or an instance.
    Name,
    /// `host:port[,host:port]`.
    Servers,
    /// A path.
    Path,
    /// Any text without control characters; never shown.
    Secret,
    /// `true` or `false`, in any case.
    Switch,
    /// The word true or anything else.
    Ignored,
    /// A whole number.
    Count(u64, u64),
    /// A number.
    Number(f64, f64),
    /// A duration with units.
    Duration(&'static str, &'static str),
    /// A duration, or `-1` for one without an end.
    DurationOrForever(&'static str, &'static str),
    /// A duration; a bare number means seconds.
    Seconds(&'static str, &'static str),
    /// A number of bytes; an empty upper bound is none.
    Size(&'static str, &'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, in any case.
    ChoiceAnyCase(&'static [&'static str]),
    /// The base URLs of HTTP servers, separated by commas; may hold credentials.
    Urls,
    /// An IP address and a port, or `off`.
    Address,
    /// A level, or directives as in `Filter`.
    Level,
    /// `RUST_LOG`'s directives.
    Filter,
}

impl Kind {
    /// Returns the value as the structs read it, or what is wrong with it, as a fragment.
    ///
    /// What the structs' own types parse (URLs, addresses, directives) passes.
    pub(super) fn normalise(self, text: &str) -> Result<String, String> {
        match self {
            // In a secret it is a second line of its file; no header and no SASL password holds one.
            Self::Text | Self::Path | Self::Secret if text.contains(char::is_control) => {
                Err("contains a control character".to_owned())
            }
            Self::Text | Self::Path | Self::Secret | Self::Urls | Self::Address | Self::Filter => {
                Ok(text.to_owned())
            }
            Self::Name => name(text),
            Self::Servers => servers(text),
            Self::Switch => choice(text, &["true", "false"], str::eq_ignore_ascii_case),
            Self::Ignored => Ok(text.eq_ignore_ascii_case("true").to_string()),
            Self::Choice(words) => choice(text, words, str::eq),
            Self::ChoiceAnyCase(words) => choice(text, words, str::eq_ignore_ascii_case),
            Self::Count(min, max) => {
                let count: u64 = text.parse().map_err(|_| "is no whole number".to_owned())?;
                within(&count, (&min, min), Some((&max, max)))?;
                Ok(count.to_string())
            }
            Self::Number(min, max) => {
                let number: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
                // NaN is neither below nor above anything.
                let number = Some(number).filter(|n| !n.is_nan()).ok_or("is no number")?;
                within(&number, (&min, min), Some((&max, max)))?;
                Ok(number.to_string())
            }
            Self::DurationOrForever(..) if text == "-1" => Ok(text.to_owned()),
            Self::Duration(min, max) | Self::DurationOrForever(min, max) => {
                duration(text, min, max)
            }
            Self::Seconds(min, max) => match text.parse::<u64>() {
                Ok(seconds) => duration(&format!("{seconds}s"), min, max),
                Err(_) => duration(text, min, max),
            },
            Self::Size(min, max) => {
                let size: ByteSize = text.parse().map_err(|_| "is no size".to_owned())?;
                let bound = |text: &str| text.parse::<ByteSize>().unwrap_or_default();
                let max = Some((max, bound(max))).filter(|(text, _)| !text.is_empty());
                within(&size, (min, bound(min)), max)?;
                Ok(size.as_u64().to_string())
            }
            Self::Level => level(text),
        }
    }

    /// Returns what the value has to be, for "set …".
    pub(super) fn expects(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Name => "1 to 249 of the characters a-z A-Z 0-9 . _ -".to_owned(),
            Self::Servers => "host:port[,host:port], such as kafka-1:9092,kafka-2:9092".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Secret => "a secret".to_owned(),
            Self::Switch | Self::Ignored => "true or false".to_owned(),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Duration(min, max) => {
                format!("a number and a unit (ms, s, m, h) from {min} to {max}, such as 1m 30s")
            }
            Self::DurationOrForever(min, max) => {
                format!("-1, or a number and a unit (ms, s, m, h) from {min} to {max}")
            }
            Self::Seconds(min, max) => format!("whole seconds or a duration from {min} to {max}"),
            Self::Size(min, "") => format!("a size of at least {min}, such as 64MiB"),
            Self::Size(min, max) => format!("a size from {min} to {max}, such as 1MiB"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::ChoiceAnyCase(words) => format!("one of {}, in any case", words.join(", ")),
            Self::Urls => {
                "a URL such as http://host:11434 or https://host/path, or several separated by commas"
                    .to_owned()
            },
            Self::Address => "an IP address and a port such as 0.0.0.0:8080, or off".to_owned(),
            Self::Level | Self::Filter => {
                "off, error, warn, info, debug, trace, or directives such as info,weir::llm=debug"
                    .to_owned()
            }
        }
    }

    /// Returns the name of the form, for the documentation.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Text | Self::Name => "text",
            Self::Servers => "host:port list",
            Self::Path => "path",
            Self::Secret => "secret",
            Self::Switch | Self::Ignored => "true, false",
            Self::Count(..) => "count",
            Self::Number(..) => "number",
            Self::Duration(..) => "duration",
            Self::DurationOrForever(..) => "duration, `-1`",
            Self::Seconds(..) => "seconds or duration",
            Self::Size(..) => "size",
            Self::Choice(_) | Self::ChoiceAnyCase(_) => "word",
            Self::Urls => "URLs",
            Self::Address => "IP:port, `off`",
            Self::Level | Self::Filter => "log filter",
        }
    }

    /// Returns the allowed values, for the documentation; empty when the form says it all.
    pub(super) fn range(self) -> String {
        match self {
            Self::Count(min, max) => format!("{min} to {max}"),
            Self::Number(min, max) => format!("{min} to {max}"),
            Self::Duration(min, max)
            | Self::DurationOrForever(min, max)
            | Self::Seconds(min, max) => format!("{min} to {max}"),
            Self::Size(min, "") => format!("from {min}"),
            Self::Size(min, max) => format!("{min} to {max}"),
            Self::Choice(words) => words.join(", "),
            Self::ChoiceAnyCase(words) => format!("{} (any case)", words.join(", ")),
            Self::Name => "1 to 249 of a-z A-Z 0-9 . _ -".to_owned(),
            Self::Text
            | Self::Servers
            | Self::Path
            | Self::Secret
            | Self::Switch
            | Self::Ignored
            | Self::Urls
            | Self::Address
            | Self::Level
            | Self::Filter => String::new(),
        }
    }
}

fn within<T: PartialOrd, D: std::fmt::Display>(
    value: &T,
    (min_text, min): (D, T),
    max: Option<(D, T)>,
) -> Result<(), String> {
    if *value < min {
        return Err(format!("is below {min_text}"));
    }
    match max {
        Some((text, max)) if *value > max => Err(format!("is above {text}")),
        Some(_) | None => Ok(()),
    }
}

fn choice(text: &str, words: &[&str], equal: fn(&str, &str) -> bool) -> Result<String, String> {
    let word = words.iter().find(|word| equal(text, word));
    word.map(|word| (*word).to_owned()).ok_or_else(|| "is none of the words allowed".to_owned())
}

fn duration(text: &str, min: &'static str, max: &'static str) -> Result<String, String> {
    // humantime takes the bare 0 as well.
    let parse = |text: &str| humantime::parse_duration(text);
    let value = parse(text).map_err(|_| match text.parse::<f64>() {
        Ok(_) => "has no unit".to_owned(),
        Err(_) => "is no duration".to_owned(),
    })?;
    let bound = |text: &'static str| (text, parse(text).unwrap_or(Duration::ZERO));
    within(&value, bound(min), Some(bound(max)))?;
    Ok(humantime::format_duration(value).to_string())
}

fn name(text: &str) -> Result<String, String> {
    if text == "." || text == ".." {
        return Err("is a name that Kafka reserves".to_owned());
    }
    if text.len() > 249 {
        return Err(format!("has {} characters, and Kafka takes 249", text.chars().count()));
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(c) => Err(format!("contains {c:?}, which Kafka takes in no name")),
        None => Ok(text.to_owned()),
    }
}

fn servers(text: &str) -> Result<String, String> {
    let one = |(i, text): (usize, &str)| {
        let server = text.trim();
        // The entry's number and not its text, which nobody has looked through for a password.
        check_server(server).map_err(|reason| format!("{reason} in entry {}", i + 1))?;
        Ok(server.to_owned())
    };
    let servers: Result<Vec<_>, String> = text.split(',').enumerate().map(one).collect();
    Ok(servers?.join(","))
}

fn check_server(text: &str) -> Result<(), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let legal = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)),
    };
    if !legal {
        return Err("has no host name");
    }
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        Ok(_) | Err(_) => Err("has no port from 1 to 65535"),
    }
}

fn level(text: &str) -> Result<String, String> {
    // A bare word that is no level would be a target, and `LOG_LEVEL=warning` would log everything of it.
    let directive = |part: &str| {
        let part = part.trim();
        if part.contains(['=', '[']) || part.contains("::") {
            return Ok(part.to_owned());
        }
        choice(part, &["off", "error", "warn", "info", "debug", "trace"], str::eq_ignore_ascii_case)
            .map_err(|_| "has a word that is no level".to_owned())
    };
    let parts: Result<Vec<_>, _> = text.split(',').map(directive).collect();
    Ok(parts?.join(","))
}
