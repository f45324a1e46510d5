//! HTTP for the operator: probes, metrics and recent results.
//!
//! Every answer comes from memory at once: no request waits for Kafka or for a model. axum stays in this room.

mod client;
mod config;
mod connection;
mod probes;
mod results;
mod server;

use std::io;
use std::net::SocketAddr;

pub use client::probe;
pub use config::Config;
pub use results::Results;
pub use server::{Site, bind, serve};

/// What can go wrong with the operator's HTTP, on either side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on.
    #[error("listen on HTTP_ADDR={addr} ({remedy})")]
    Bind {
        /// As configured.
        addr: SocketAddr,
        /// What to do about it.
        remedy: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The server ended by itself.
    #[error("serve HTTP")]
    Serve(#[source] io::Error),
    /// Nobody answers.
    #[error("connect to {addr}")]
    Connect {
        /// Who was asked.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection broke, or the answer took too long.
    #[error("ask {addr} for {path}")]
    Exchange {
        /// Who was asked.
        addr: SocketAddr,
        /// What for.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// What came back is not HTTP.
    #[error("{addr} does not answer in HTTP/1.1: is it weir that listens there?")]
    NotHttp {
        /// Who was asked.
        addr: SocketAddr,
    },
}

#[cfg(test)]
mod tests;
