//! The base URLs of servers that do the same work, separated by commas.
//!
//! No error repeats the text, which may hold a password; it names the entry.

use serde::{Deserialize, Deserializer, de};

use super::base_url::{self, BaseUrl};

/// The most endpoints of one variable.
const ENDPOINTS_MAX: usize = 64;

/// Where a model's servers are: one or more, none twice.
#[derive(Debug, Clone)]
pub struct BaseUrls {
    first: BaseUrl,
    others: Vec<BaseUrl>,
}

impl BaseUrls {
    /// Returns the first one.
    #[must_use]
    pub fn first(&self) -> &BaseUrl {
        &self.first
    }

    /// Returns all, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &BaseUrl> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn parse(text: &str, read: fn(&str) -> Result<BaseUrl, String>) -> Result<Self, String> {
        let entries: Vec<&str> = text.split(',').map(str::trim).collect();
        let alone = entries.len() == 1;
        if entries.len() > ENDPOINTS_MAX {
            return Err(format!("names {} endpoints, at most {ENDPOINTS_MAX}", entries.len()));
        }
        let mut urls: Vec<BaseUrl> = Vec::with_capacity(entries.len());
        for (entry, number) in entries.into_iter().zip(1..) {
            let which = |reason: String| match alone {
                true => reason,
                false => format!("entry {number} {reason}"),
            };
            if entry.is_empty() {
                return Err(which("is empty".to_owned()));
            }
            // Else the tail of a password that holds a comma would be taken for a user.
            if !alone && entry.contains('@') && !entry.contains("://") {
                return Err(which("holds credentials and has no scheme".to_owned()));
            }
            let url = read(entry).map_err(which)?;
            let same = |other: &BaseUrl| other.as_str() == url.as_str();
            if let Some((_, other)) = urls.iter().zip(1..).find(|(other, _)| same(other)) {
                return Err(which(format!("repeats entry {other}")));
            }
            urls.push(url);
        }
        let mut urls = urls.into_iter();
        let first = urls.next().ok_or_else(|| "is empty".to_owned())?;
        Ok(Self { first, others: urls.collect() })
    }
}

impl From<BaseUrl> for BaseUrls {
    fn from(first: BaseUrl) -> Self {
        Self { first, others: Vec::new() }
    }
}

/// Reads `OLLAMA_BASE_URL`: schemes may be missing.
pub(super) fn ollama<'de, D: Deserializer<'de>>(input: D) -> Result<BaseUrls, D::Error> {
    let text = String::deserialize(input)?;
    BaseUrls::parse(&text, base_url::ollama).map_err(de::Error::custom)
}

/// Reads `OPENAI_BASE_URL`, whose entries have a scheme.
pub(super) fn openai<'de, D: Deserializer<'de>>(input: D) -> Result<BaseUrls, D::Error> {
    let text = String::deserialize(input)?;
    BaseUrls::parse(&text, base_url::openai).map_err(de::Error::custom)
}
