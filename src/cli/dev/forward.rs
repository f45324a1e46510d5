//! A door to the broker at a port that clients know.
//!
//! The broker listens where it likes. Clients ask the port that they were told for the brokers, and go on to the broker's
//! own; so little goes through here.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::debug;

/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// Opens the door, unless the port is taken.
pub(super) async fn open(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok()
}

/// Connects whoever comes to `broker`; without a door waits for ever.
pub(super) async fn serve(door: Option<TcpListener>, broker: &str) {
    let Some(door) = door else { return std::future::pending().await };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = door.accept(), if connections.len() < CONNECTIONS_MAX => {
                let Ok((mut client, _)) = accepted else { continue };
                let broker = broker.to_owned();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(broker).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
            Some(ended) = connections.join_next() => debug!(?ended, "a client's connection ended"),
        }
    }
}
