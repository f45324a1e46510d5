//! Connections with limits: how many, and how long each may take for an exchange.
//!
//! axum's server knows neither, so they lie below it, where bytes are read and written. Nothing here knows HTTP: a
//! connection is busy from the first byte read until a byte is written, and idle from then on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// From accepting a connection, or from the first byte of a later request, to the first byte of the answer.
pub(super) const EXCHANGE_MAX: Duration = Duration::from_secs(10);

/// From the last byte written to the next request. Longer than a scrape interval is in practice.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(75);

/// Accepts connections that are limited in number and time.
pub(super) struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    closing: CancellationToken,
}

/// A connection that ends when its time is over, or when all connections are to be closed.
pub(super) struct Connection<S> {
    stream: S,
    idle: bool,
    until: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its place among the connections, given back when it ends.
    _place: Option<OwnedSemaphorePermit>,
}

impl Limited {
    /// `closing` ends every connection at once.
    pub(super) fn new(listener: TcpListener, closing: CancellationToken) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), closing }
    }
}

impl Listener for Limited {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.closing.clone(), place), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<S> Connection<S> {
    pub(super) fn new(
        stream: S,
        closing: CancellationToken,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let until = Box::pin(sleep(EXCHANGE_MAX));
        let closing = Box::pin(closing.cancelled_owned());
        Self { stream, idle: false, until, closing, _place: place }
    }

    /// Begins a new phase.
    fn turn(&mut self, idle: bool) {
        self.idle = idle;
        let limit = if idle { IDLE_MAX } else { EXCHANGE_MAX };
        self.until.as_mut().reset(Instant::now() + limit);
    }

    /// To be asked when the stream has nothing to do: an error once the time is over.
    fn overdue<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.until.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(outcome) => {
                if self.idle {
                    self.turn(false);
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => self.overdue(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(outcome) => {
                if !self.idle {
                    self.turn(true);
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => self.overdue(cx),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
