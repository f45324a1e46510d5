//! Where a model is, and what must never be read about it: the credentials.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

use super::base_url::{BaseUrl, is_loopback};
use super::client::SetupError;
use super::error::{Again, Error, Fault};

/// What stands in an error where a server repeated a secret.
const REDACTED: &str = "[redacted]";

/// The shortest secret that is looked for in a server's words; a shorter one would blot out words of any text.
const SECRET_MIN: usize = 4;

/// How much of a server's words an error holds, in characters: enough to name the cause, too short for a page.
const WORDS_MAX: usize = 300;

/// A base URL with its credentials.
pub(super) struct Endpoint {
    label: Arc<str>,
    base: Url,
    credentials: Option<HeaderValue>,
    secrets: Vec<SecretString>,
}

impl Endpoint {
    /// Takes the base URL and the key; credentials in the URL are stronger, as for the original's client.
    ///
    /// # Errors
    /// When the key holds what no header can carry.
    pub(super) fn new(base: &BaseUrl, key: Option<&SecretString>) -> Result<Self, SetupError> {
        let label: Arc<str> = base.as_str().into();
        let url = Url::parse(&label).map_err(|error| SetupError::Http {
            endpoint: Arc::clone(&label),
            reason: error.to_string(),
        })?;
        let (credentials, secrets) = match (base.login(), key) {
            // Basic authentication without a user is of no use to anybody, so that form is free for a token.
            (Some(login), _) if login.user.expose_secret().is_empty() => {
                let header = format!("Bearer {}", login.password.expose_secret());
                (Some(header), vec![login.password.clone()])
            }
            (Some(login), _) => {
                let (user, password) = (login.user.expose_secret(), login.password.expose_secret());
                let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
                let header = format!("Basic {encoded}");
                // Some gateways take a token as the user, without a password.
                let secret = if password.is_empty() { &login.user } else { &login.password };
                (Some(header), vec![secret.clone(), encoded.into()])
            }
            (None, Some(key)) => {
                (Some(format!("Bearer {}", key.expose_secret())), vec![key.clone()])
            }
            (None, None) => (None, Vec::new()),
        };
        let credentials = credentials.map(HeaderValue::try_from).transpose();
        let mut credentials =
            credentials.map_err(|_| SetupError::Key { endpoint: Arc::clone(&label) })?;
        if let Some(header) = &mut credentials {
            header.set_sensitive(true);
        }
        Ok(Self { label, base: url, credentials, secrets })
    }

    /// Returns the base URL as it may be shown.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Returns what tells it from other endpoints in a figure's label: its host and port, and its path if it has one.
    pub(super) fn name(&self) -> Arc<str> {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        format!("{host}:{port}{}", self.base.path().trim_end_matches('/')).into()
    }

    /// Returns the `Authorization` of every request.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        self.credentials.as_ref()
    }

    /// Returns the URL of `path`, which begins without a slash, under the base.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}/{path}"));
        url
    }

    /// Returns whether the connection is encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Returns whether the server is this host by its name or number: then no proxy is asked.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(self.base.host_str().unwrap_or_default())
    }

    /// Returns the fault as this endpoint's error, without the secrets that a server may have repeated, and short.
    pub(super) fn fail(&self, fault: Fault) -> Error {
        // In this order: half a secret at the cut would not be recognised.
        let fault = fault.map_text(|text| shorten(self.redact(text)));
        Error { endpoint: Arc::clone(&self.label), fault, again: Again::Here }
    }

    fn redact(&self, text: String) -> String {
        let secrets = self.secrets.iter().map(|secret| secret.expose_secret());
        secrets.filter(|secret| secret.len() >= SECRET_MIN).fold(text, |text, secret| {
            if text.contains(secret) { text.replace(secret, REDACTED) } else { text }
        })
    }
}

fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(WORDS_MAX) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
