//! The base URL of a model's server, its credentials taken out and its mistakes told.
//!
//! No error repeats the text, which may hold a password.

use std::net::IpAddr;

use reqwest::Url;
use secrecy::SecretString;

/// Where a server's API begins: a URL without a trailing slash, a query or credentials.
#[derive(Debug, Clone)]
pub struct BaseUrl {
    text: String,
    reach: Reach,
    login: Option<Login>,
}

/// Credentials that stood in a URL: for basic authentication, or, without a user, a bearer token.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name; empty where the password is a bearer token. Without a password it may be a token itself.
    pub user: SecretString,
    /// The password or the token; may be empty.
    pub password: SecretString,
}

/// Who can read along on the way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Nobody: it is on this machine.
    Local,
    /// Nobody: the connection is encrypted.
    Encrypted,
    /// Everybody on the way.
    Open,
}

impl BaseUrl {
    /// Returns the URL without credentials; a path of the API, `/` first, may be appended.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the credentials that stood in the URL.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Returns whether others on the network can read what is sent: no TLS, and not to this machine.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.reach {
            Reach::Open => true,
            Reach::Local | Reach::Encrypted => false,
        }
    }

    pub(super) fn default_of_ollama() -> Self {
        Self { text: "http://localhost:11434".to_owned(), reach: Reach::Local, login: None }
    }

    pub(super) fn default_of_openai() -> Self {
        Self { text: "https://api.openai.com/v1".to_owned(), reach: Reach::Encrypted, login: None }
    }

    /// Reads a URL that has a scheme. The error is a fragment that follows the variable's name.
    fn parse(text: &str) -> Result<Self, String> {
        // The URL standard drops tabs and line ends and turns backslashes round; here they are mistakes.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("contains a blank, a control character or a backslash".to_owned());
        }
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            return Err("has no host".to_owned());
        }
        let mut url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let encrypted = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("has a scheme other than http and https".to_owned()),
        };
        if url.port() == Some(0) {
            return Err("has port 0, which reaches nobody".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("has a query or a fragment, to which no path can be appended".to_owned());
        }
        let login = Login::take(&mut url)?;
        let reach = match encrypted {
            true => Reach::Encrypted,
            false if is_loopback(&host) => Reach::Local,
            false => Reach::Open,
        };
        Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), reach, login })
    }
}

impl Login {
    fn take(url: &mut Url) -> Result<Option<Self>, String> {
        if url.username().is_empty() && url.password().is_none() {
            return Ok(None);
        }
        let decode = |text: &str| {
            percent_decoded(text)
                .ok_or_else(|| "has credentials that are not percent-encoded UTF-8".to_owned())
        };
        let user = SecretString::from(decode(url.username())?);
        let password = SecretString::from(decode(url.password().unwrap_or_default())?);
        // Both refuse only a URL without a host, and this one has one.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| "has credentials that can't be taken out".to_owned())?;
        Ok(Some(Self { user, password }))
    }
}

/// Reads an entry of `OLLAMA_BASE_URL`: the scheme may be missing.
pub(super) fn ollama(text: &str) -> Result<BaseUrl, String> {
    if text.contains("://") {
        return BaseUrl::parse(text);
    }
    // As the original's client: without a scheme the port is Ollama's, not HTTP's.
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    let port = if after_brackets.contains(':') { "" } else { ":11434" };
    BaseUrl::parse(&format!("http://{authority}{port}{path}"))
}

/// Reads an entry of `OPENAI_BASE_URL`, which has a scheme.
pub(super) fn openai(text: &str) -> Result<BaseUrl, String> {
    if !text.contains("://") {
        return Err("has no scheme".to_owned());
    }
    BaseUrl::parse(text)
}

/// Returns whether a host is this machine by its name or number.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%');
        let code = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .map(|hex| u8::from_str_radix(hex, 16));
        match code {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..)?;
            }
            // A lone percent sign stands for itself.
            Some(Err(_)) | None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
