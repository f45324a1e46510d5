//! One GET, without an HTTP library and without a runtime: a health check starts, asks and ends within milliseconds.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use super::Error;

/// The largest answer that is read.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Asks for `path` and returns the status and the body, within `timeout` over all.
///
/// An address that means every interface (`0.0.0.0`) is asked on the loopback one. Blocks the thread.
///
/// # Errors
/// When nobody listens, the answer doesn't come in time, or it isn't HTTP.
pub fn probe(addr: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, String), Error> {
    let addr = reachable(addr);
    let deadline = Instant::now() + timeout;
    let stream = TcpStream::connect_timeout(&addr, timeout.max(Duration::from_millis(1)))
        .map_err(|source| Error::Connect { addr, source })?;
    let answer = exchange(stream, addr, path, deadline).map_err(|source| Error::Exchange {
        addr,
        path: path.to_owned(),
        source,
    })?;
    parse(&answer).ok_or(Error::NotHttp { addr })
}

fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, addr.port())
}

fn exchange(
    mut stream: TcpStream,
    addr: SocketAddr,
    path: &str,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    );
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while answer.len() < ANSWER_MAX {
        // The time-out holds for one read, the deadline for all of them.
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(n) => answer.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("the answer exceeds {ANSWER_MAX} bytes")))
}

/// What is left until the deadline; an error when nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status.parse().ok()?, body.to_owned()))
}
