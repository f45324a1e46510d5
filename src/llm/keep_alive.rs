//! How long a server keeps a model loaded after a call.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How long a model stays loaded after a call to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// For this long; zero unloads it at once.
    For(Duration),
    /// Until another model needs the memory.
    Forever,
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        match &*text {
            "-1" => Ok(Self::Forever),
            _ => humantime::parse_duration(&text).map(Self::For).map_err(de::Error::custom),
        }
    }
}

impl Serialize for KeepAlive {
    /// A number means seconds to every release, and a negative one for ever; a text needs a unit.
    fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        match self {
            Self::For(time) if time.subsec_nanos() == 0 => serializer.serialize_u64(time.as_secs()),
            // Cut to whole seconds, half a second would unload the model at once.
            Self::For(time) => serializer.serialize_f64(time.as_secs_f64()),
            Self::Forever => serializer.serialize_i64(-1),
        }
    }
}
