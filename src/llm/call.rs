//! One exchange over HTTP, under four deadlines.
//!
//! An answer is complete when the protocol said so *and* the body ended as HTTP says it ends. Whatever is dropped
//! here, at an error, at a deadline or because the run is over, takes the connection with it, and that is what makes
//! the server stop its work.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use reqwest::{Response, Url};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Config;
use super::error::{Cut, Fault, Phase};
use super::pool::Voice;
use super::reader::{Charset, Draft, Reader};
use super::refusal::{self, Refusal};

/// How long a body may go on after the protocol's own end. OpenAI's usage comes in that time; a server that keeps
/// the connection open without need loses it.
const AFTER_DONE: Duration = Duration::from_secs(5);

/// How much of a refusal is read.
const REFUSAL_MAX: usize = 64 * 1024;

/// The deadlines of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) total: Duration,
}

/// What an exchange brought.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) draft: Draft,
    pub(super) first_byte: Duration,
    pub(super) total: Duration,
}

/// A call that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock<'a> {
    begun: Instant,
    deadlines: Deadlines,
    /// Where the server answers in an order of its own: the first byte's time begins anew with each sign of the model.
    queue: Option<&'a Voice>,
}

impl Deadlines {
    /// Takes the deadlines of the configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            connect: config.connect_timeout,
            first_byte: config.first_byte_timeout,
            idle: config.idle_timeout,
            total: config.total_timeout,
        }
    }
}

impl Clock<'_> {
    /// Starts now.
    pub(super) fn start(deadlines: Deadlines) -> Self {
        Self { begun: Instant::now(), deadlines, queue: None }
    }

    /// Sends a request and waits for the head of the reply.
    pub(super) async fn send(
        &self,
        http: &reqwest::Client,
        request: reqwest::Request,
    ) -> Result<Response, Fault> {
        self.within(Phase::FirstByte, http.execute(request)).await?.map_err(|e| self.unsent(&e))
    }

    /// Returns the next piece of a body.
    pub(super) async fn chunk(
        &self,
        phase: Phase,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Fault> {
        self.within(phase, response.chunk()).await?.map_err(|error| unread(&error))
    }

    /// Lets something take no longer than its phase, nor the call longer than in all.
    async fn within<F>(&self, phase: Phase, future: F) -> Result<F::Output, Fault>
    where
        F: Future,
    {
        let mut future = pin!(future);
        let idle_since = Instant::now();
        loop {
            let (end, fault) = self.end(phase, idle_since);
            if let Ok(output) = timeout_at(end, future.as_mut()).await {
                return Ok(output);
            }
            // The model may have given a sign meanwhile.
            if self.end(phase, idle_since).0 <= Instant::now() {
                return Err(fault);
            }
        }
    }

    /// Returns when a phase is over, or the whole call where that is sooner, and what that means.
    fn end(&self, phase: Phase, idle_since: Instant) -> (Instant, Fault) {
        let Deadlines { connect, first_byte, idle, total } = self.deadlines;
        let (limit, from) = match phase {
            Phase::Connect => (connect, self.begun),
            Phase::FirstByte => {
                let sign = self.queue.and_then(Voice::last_sign);
                (first_byte, sign.map_or(self.begun, |sign| sign.max(self.begun)))
            }
            Phase::Idle => (idle, idle_since),
            // Whoever listens to a silent endpoint keeps the last two.
            Phase::Total | Phase::Frozen | Phase::Unresponsive => (total, self.begun),
        };
        if from + limit <= self.begun + total {
            (from + limit, Fault::Timeout { phase, after: limit })
        } else {
            (self.begun + total, Fault::Timeout { phase: Phase::Total, after: total })
        }
    }

    /// Sorts the failure of a request that got no reply.
    fn unsent(&self, error: &reqwest::Error) -> Fault {
        match (error.is_connect() || error.is_dns(), error.is_timeout()) {
            (true, true) => Fault::Timeout { phase: Phase::Connect, after: self.deadlines.connect },
            (true, false) => Fault::Unreachable { reason: root(error) },
            (false, _) => Fault::Reset { reason: root(error) },
        }
    }
}

/// Asks, and reads the whole answer.
pub(super) async fn exchange(
    http: &reqwest::Client,
    request: reqwest::Request,
    mut reader: Reader,
    deadlines: Deadlines,
    voice: &Voice,
) -> Result<Exchange, Fault> {
    let queue = matches!(reader, Reader::Ollama(_)).then_some(voice);
    let clock = Clock { queue, ..Clock::start(deadlines) };
    let mut response = clock.send(http, request).await?;
    if !response.status().is_success() {
        return Err(refuse(&clock, response).await);
    }
    let charset = charset(response.headers())?;
    let mut first_byte = None;
    loop {
        let phase = if first_byte.is_none() { Phase::FirstByte } else { Phase::Idle };
        let chunk = if reader.is_done() {
            match timeout(AFTER_DONE, clock.chunk(Phase::Total, &mut response)).await {
                Err(_) | Ok(Err(Fault::Timeout { .. })) => None,
                Ok(chunk) => chunk?,
            }
        } else {
            clock.chunk(phase, &mut response).await?
        };
        let Some(bytes) = chunk else { break };
        voice.speak();
        first_byte.get_or_insert_with(|| clock.begun.elapsed());
        reader.push(&charset.decode(&bytes))?;
    }
    let total = clock.begun.elapsed();
    let draft = reader.finish().map_err(|mut fault| {
        if let Fault::Truncated { cut, .. } = &mut fault
            && !is_framed(response.headers())
        {
            // A body that is as long as its connection lasts has no good order to end in.
            *cut = Cut::Broken;
        }
        fault
    })?;
    Ok(Exchange { draft, first_byte: first_byte.unwrap_or(total), total })
}

/// Returns whether HTTP itself tells where the body ends.
fn is_framed(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// Reads as much of a body as `max` allows.
pub(super) async fn read(
    clock: &Clock<'_>,
    response: &mut Response,
    max: usize,
) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(bytes) = clock.chunk(Phase::Idle, response).await? {
        body.extend_from_slice(&bytes);
        if body.len() > max {
            return Err(Fault::TooLarge { what: "body", limit: max });
        }
    }
    Ok(body)
}

/// Returns what a status other than success means. A body that can't be read leaves the status to speak.
pub(super) async fn refuse(clock: &Clock<'_>, mut response: Response) -> Fault {
    let body = read(clock, &mut response, REFUSAL_MAX).await.unwrap_or_default();
    let headers = response.headers();
    let after = header(headers, &RETRY_AFTER)
        .and_then(|value| refusal::retry_after(value, SystemTime::now()));
    let location = header(headers, &LOCATION).map(|to| location(response.url(), to));
    Refusal {
        status: response.status().as_u16(),
        after,
        location: location.as_deref(),
        body: &body,
    }
    .fault()
}

fn charset(headers: &HeaderMap) -> Result<Charset, Fault> {
    match header(headers, &CONTENT_ENCODING) {
        None => {}
        Some(coding) if coding.trim().eq_ignore_ascii_case("identity") => {}
        Some(coding) => {
            let reason = format!("content encoding {coding:?}, which was not asked for");
            return Err(Fault::BadOutput { reason });
        }
    }
    Ok(Charset::of(header(headers, &CONTENT_TYPE).unwrap_or_default()))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns where a redirect leads, without what may be secret in it.
fn location(from: &Url, to: &str) -> String {
    match from.join(to) {
        Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Err(_) => "a malformed location".to_owned(),
    }
}

/// Sorts the failure of a body that had begun: bytes that make no sense, or the end of them.
fn unread(error: &reqwest::Error) -> Fault {
    let reason = root(error);
    let mut kinds =
        causes(error).filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    let senseless = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
    if kinds.any(|kind| senseless.contains(&kind)) {
        Fault::BadOutput { reason }
    } else {
        Fault::Truncated { reason, cut: Cut::Broken }
    }
}

/// Returns the innermost cause in its own words: the outer ones name the URL or say nothing.
pub(super) fn root(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "request failed".to_owned(), ToString::to_string)
}

/// Returns what an error rests on, the outermost first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| Error::source(*cause))
}
