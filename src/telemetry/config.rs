//! How much is logged, and in which form. Variables: `LOG_*`, and `RUST_LOG` over `LOG_LEVEL`.

use serde::{Deserialize, Deserializer, de};
use tracing_subscriber::EnvFilter;

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The form of a line. Default `auto`.
    pub format: Format,
    /// Which lines are written: a level, or directives such as `info,weir::llm=debug`; they have been
    /// parsed once and are valid. `RUST_LOG`, where set, is what stands here. Default `info`.
    ///
    /// `debug` writes several lines per event; `error` hides what an operator needs to see coming.
    #[serde(deserialize_with = "directives")]
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text for a terminal, JSON for everything else.
    Auto,
    /// One JSON object per line.
    Json,
    /// For human eyes.
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".to_owned() }
    }
}

fn directives<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    EnvFilter::builder()
        .parse(&text)
        .map_err(|error| de::Error::custom(format!("is no filter: {error}")))?;
    Ok(text)
}
