//! The endpoints of one provider: who gets the next permit, who rests, who is silent for too long.
//!
//! All decisions are the board's, under one short lock; what waits here holds no connection and no timer but the first
//! in each line. A permit that is dropped goes back, and so does the place in line of a call that is dropped.

mod board;
mod breaker;
mod busy;
mod care;
mod cell;
mod choose;
mod residency;
mod seat;
mod silence;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use board::{Arrival, Board, Ending};
use seat::{Grant, Seat, Word};
use silence::{Bearing, Ear, FIRST_LOOK, LOOK};

pub(super) use board::{Rules, Turn};
pub(super) use breaker::{Blame, Limits};
pub(super) use residency::{Running as Resident, ask as residents};
pub(super) use silence::Voice;

pub use breaker::BreakerState;

use super::config::{Config, Provider};
use super::door::Door;
use super::error::{Error, Fault, Phase};
use super::estimate::Estimate;
use super::observe::{Observation, Observer};
use super::queue::QueueTime;

/// The endpoints of one provider.
pub(super) struct Pool {
    pub(super) provider: Provider,
    doors: Vec<Site>,
    board: Mutex<Board>,
    bearing: Bearing,
    patience: Duration,
    observer: Observer,
}

/// An endpoint of the pool.
struct Site {
    door: Arc<Door>,
    ear: Ear,
    /// Woken when a look at it is worth while: its models may have changed, or it rests.
    news: Notify,
}

/// A permit for one call; dropped without an outcome, the call was cancelled.
pub(super) struct Permit<'a> {
    pool: &'a Pool,
    site: &'a Site,
    grant: Grant,
    voice: Voice,
    turn: Turn,
    queued: Duration,
    is_open: bool,
}

/// Who wants a permit.
pub(super) struct Caller {
    /// Whether it waits for this model and no other. If not, it leaves when no endpoint can be asked.
    pub(super) stays: bool,
    /// The length of its prompt, in bytes.
    pub(super) prompt: usize,
    /// Its turn, where it has been in line before.
    pub(super) turn: Option<Turn>,
}

/// Why a call gets no permit.
pub(super) enum Turned {
    /// Every endpoint rests, and another model may answer instead.
    Away,
    /// It has waited too long for endpoints that rest; this is what one of them said last.
    Failed(Arc<Door>, Fault),
    /// There are more models than anybody meant to ask.
    TooManyModels,
}

impl Pool {
    /// Makes the pool of these endpoints. Connects to nothing.
    pub(super) fn new(
        provider: Provider,
        doors: Vec<Door>,
        config: &Config,
        observer: Observer,
    ) -> Self {
        let limits = Limits {
            faults: config.breaker_faults,
            rest: config.breaker_rest,
            rest_max: config.breaker_rest_max,
        };
        let rules = Rules {
            permits: config.ollama.max_concurrency.max(1),
            swaps: provider == Provider::Ollama,
            patience: config.swap_patience,
            rest_patience: config.start_timeout,
            breaker: limits,
        };
        let bearing = Bearing {
            resident: config.resident_first_byte_timeout,
            first_byte: config.first_byte_timeout,
            is_one_of_several: doors.len() > 1,
        };
        let board = Board::new(rules, doors.len(), Instant::now());
        let site = |door| Site { door: Arc::new(door), ear: Ear::default(), news: Notify::new() };
        Self {
            provider,
            doors: doors.into_iter().map(site).collect(),
            board: Mutex::new(board),
            bearing,
            patience: config.start_timeout,
            observer,
        }
    }

    /// Returns the endpoints, in the order in which they were named.
    pub(super) fn doors(&self) -> impl ExactSizeIterator<Item = &Arc<Door>> {
        self.doors.iter().map(|site| &site.door)
    }

    /// Returns how long calls wait for endpoints that rest or have too much to do.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Returns whether any endpoint may be asked for a model now.
    pub(super) fn serves(&self, model: &Arc<str>) -> bool {
        let mut board = self.board();
        board.model(model).is_some_and(|model| board.is_served(model, Instant::now()))
    }

    /// Refuses a prompt that fits at no endpoint, before it stands in line for one.
    pub(super) fn admit(&self, model: &str, estimate: Estimate) -> Result<(), Error> {
        let now = Instant::now();
        let mut refused = Ok(());
        for door in self.doors() {
            match door.context().admit(model, estimate, now) {
                Ok(()) => return Ok(()),
                Err(fault) => refused = Err(door.fail(fault)),
            }
        }
        refused
    }

    /// Waits for a permit, in the order of arrival.
    pub(super) async fn enter(
        &self,
        model: &Arc<str>,
        Caller { stays, prompt, turn }: Caller,
        queue: &QueueTime,
    ) -> Result<Permit<'_>, Turned> {
        let (number, turn, arrival) = {
            let (now, mut board) = (Instant::now(), self.board());
            let number = board.model(model).ok_or(Turned::TooManyModels)?;
            let turn = turn.unwrap_or_else(|| board.turn(now));
            (number, turn, board.arrive(number, stays, turn, now))
        };
        let (grant, queued) = match arrival {
            Arrival::Granted(grant) => (grant, Duration::ZERO),
            Arrival::Leaves => return Err(Turned::Away),
            Arrival::Waits(seat) => {
                let (arrived, _waiting) = (Instant::now(), queue.wait());
                let ticket = turn.ticket;
                let stand = Stand { pool: self, model: number, ticket, seat, is_over: false };
                (stand.wait().await?, arrived.elapsed())
            }
        };
        self.tell_changes();
        let Some(site) = self.doors.get(grant.place) else { return Err(Turned::Away) };
        let voice = Voice::begin(Arc::clone(&grant.pulse), prompt);
        Ok(Permit { pool: self, site, grant, voice, turn, queued, is_open: true })
    }

    /// Holds all calls back until `until`, or until it is opened.
    pub(super) fn shut(&self, until: Instant) {
        self.board().shut(until);
    }

    pub(super) fn open(&self) {
        self.board().open(Instant::now());
    }

    /// Takes note of whether an endpoint can be reached, by its number.
    pub(super) fn heard(&self, place: usize, is_there: bool) {
        self.board().heard(place, is_there, Instant::now());
    }

    /// Returns whether an endpoint rests from any model.
    pub(super) fn is_resting(&self, place: usize) -> bool {
        self.board().is_resting(place)
    }

    /// Asks an endpoint which models are loaded, where that makes a difference.
    pub(super) async fn look(&self, place: usize) {
        let makes_a_difference = self.provider == Provider::Ollama
            && (self.bearing.is_one_of_several || self.board().models() > 1);
        let Some(site) = self.doors.get(place).filter(|_| makes_a_difference) else { return };
        if let Ok(listed) = residency::ask(&site.door).await {
            let is_listed = |model: &str| listed.iter().any(|running| running.is(model));
            self.board().resident(place, is_listed, Instant::now());
        }
    }

    /// Waits until a look at an endpoint is worth while.
    pub(super) async fn news(&self, place: usize) {
        match self.doors.get(place) {
            Some(site) => site.news.notified().await,
            None => std::future::pending().await,
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_changes(&self) {
        let changed = self.board().take_changed();
        for (place, model, state) in changed {
            let Some(site) = self.doors.get(place) else { continue };
            let endpoint = site.door.name();
            match state {
                BreakerState::Open => {
                    site.news.notify_one();
                    warn!(%endpoint, %model, "endpoint rests");
                }
                BreakerState::Closed => info!(%endpoint, %model, "endpoint is asked again"),
                BreakerState::HalfOpen => {}
            }
            (self.observer)(&Observation::Breaker { endpoint, model: &model, state });
        }
    }
}

/// A call in line; dropped, it leaves.
struct Stand<'a> {
    pool: &'a Pool,
    model: usize,
    ticket: u64,
    seat: Arc<Seat>,
    is_over: bool,
}

impl Stand<'_> {
    async fn wait(mut self) -> Result<Grant, Turned> {
        loop {
            if let Some(word) = self.seat.word() {
                let word = word.clone();
                self.is_over = true;
                return match word {
                    Word::Granted(grant) => Ok(grant),
                    Word::Leave => Err(Turned::Away),
                    Word::Failed(place, fault) => Err(match self.pool.doors.get(place) {
                        Some(site) => Turned::Failed(Arc::clone(&site.door), fault),
                        None => Turned::Away,
                    }),
                };
            }
            let alarm = self.pool.board().alarm(self.model, self.ticket);
            match alarm {
                Some(at) if timeout_at(at, self.seat.told()).await.is_err() => {
                    self.pool.board().pump(Instant::now());
                }
                Some(_) => {}
                None => self.seat.told().await,
            }
        }
    }
}

impl Drop for Stand<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (now, mut board) = (Instant::now(), self.pool.board());
        if let Some(Word::Granted(grant)) = self.seat.word() {
            let ending = Ending { blame: Blame::Unknown, fault: None, load: None };
            board.release(grant, &ending, now);
        } else {
            board.give_up(self.model, self.ticket, now);
        }
        drop(board);
        self.pool.tell_changes();
    }
}

impl<'a> Permit<'a> {
    /// Returns the endpoint that the call goes to.
    pub(super) fn door(&self) -> &'a Arc<Door> {
        &self.site.door
    }

    /// Returns whether the endpoint has refused calls, and this one only tries how much it takes.
    pub(super) fn is_try(&self) -> bool {
        self.grant.is_try
    }

    /// Returns the call's turn, for another time in this pool's line.
    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// Returns how long the call was in line.
    pub(super) fn queued(&self) -> Duration {
        self.queued
    }

    /// Counts the silence from now on: the call was held back with its permit.
    pub(super) fn begin_now(&mut self) {
        self.voice.begin_now();
    }

    /// Returns what is told of every byte.
    pub(super) fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Watches over the silence before the first byte. Ends only when the call is to be cut, and says why.
    pub(super) async fn listen(&self, model: &str) -> Fault {
        let (ear, bearing) = (&self.site.ear, self.pool.bearing);
        if self.pool.provider != Provider::Ollama {
            return std::future::pending().await;
        }
        sleep(FIRST_LOOK).await;
        while !self.voice.has_spoken() {
            let asked = Instant::now();
            if let Some(lease) = ear.lease(asked) {
                match residency::ask(&self.site.door).await {
                    Ok(listed) => lease.answered(&listed, asked, Instant::now()),
                    Err(_) => lease.unanswered(asked),
                }
            }
            let verdict = ear.verdict(self.voice.silent(model), bearing, Instant::now());
            // The first byte may have come while the question was asked.
            if let Some(fault) = verdict.filter(|_| !self.voice.has_spoken()) {
                return fault;
            }
            sleep(LOOK).await;
        }
        std::future::pending().await
    }

    /// Sorts a fault. A server that answers others while a call waits for its first byte may do so in its order.
    fn blame(&self, fault: &Fault) -> Blame {
        let is_late = matches!(fault, Fault::Timeout { phase: Phase::FirstByte, .. });
        if is_late && self.voice.is_answering() { Blame::Unknown } else { Blame::of(fault) }
    }

    /// Gives the permit back, and returns whether another endpoint stands ready for the same model, or is to be waited
    /// for where this one does not serve it.
    pub(super) fn end(mut self, fault: Option<&Fault>, load: Option<Duration>) -> bool {
        let (now, blame) = (Instant::now(), fault.map_or(Blame::Nobody, |fault| self.blame(fault)));
        self.is_open = false;
        let is_ready = {
            let mut board = self.pool.board();
            board.release(&self.grant, &Ending { blame, fault, load }, now);
            let (place, model) = (self.grant.place, self.grant.model);
            fault.is_some() && board.is_ready_beside(place, model, now)
                || blame == Blame::Unfit && board.is_fit_beside(place, model, now)
        };
        self.pool.tell_changes();
        if self.grant.is_swap {
            self.site.news.notify_one();
        }
        is_ready
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let ending = Ending { blame: Blame::Unknown, fault: None, load: None };
            self.pool.board().release(&self.grant, &ending, Instant::now());
            self.pool.tell_changes();
        }
    }
}
