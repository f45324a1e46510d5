//! Where the operator's HTTP server listens. Variables: `HTTP_*`.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de};

/// The operator's HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The address and port of probes, metrics and results; `None`, written `off`, for no listener.
    ///
    /// Default `127.0.0.1:8080`: it answers without asking who asks, so another interface is a decision
    /// (`0.0.0.0:8080` in a container). Port 0 takes a free one and logs it.
    #[serde(deserialize_with = "address_or_off")]
    pub addr: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { addr: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))) }
    }
}

fn address_or_off<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(input)?;
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| de::Error::custom("is not an IP address and a port"))?;
    Ok(Some(address))
}
