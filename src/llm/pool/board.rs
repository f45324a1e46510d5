//! Who is in line for which model, and what every endpoint is doing: all that a choice rests on.
//!
//! Each model has a line, in the order of arrival. A call leaves it when an endpoint has a permit of that model free,
//! does not rest, and is not kept by another model (see `choose`). Never awaits and never reads a clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Blame, BreakerState, Limits, Pass};
use super::cell::Cell;
use super::choose::{Choice, Reach};
use super::seat::{Grant, Seat, Word};
use crate::llm::error::Fault;

/// The most models of one process: their names come from the configuration and from graphs, never from events.
const MODELS_MAX: usize = 64;

/// How long an endpoint that can't serve a model is passed over where another may.
const UNFIT_FOR: Duration = Duration::from_secs(10);

/// What the board goes by.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Rules {
    /// Calls of one model at one endpoint.
    pub(in crate::llm) permits: usize,
    /// Whether endpoints load models and drop others for them.
    pub(in crate::llm) swaps: bool,
    pub(in crate::llm) patience: Duration,
    /// How long calls wait while every endpoint rests.
    pub(in crate::llm) rest_patience: Duration,
    pub(in crate::llm) breaker: Limits,
}

#[derive(Debug)]
pub(in crate::llm) struct Board {
    pub(super) rules: Rules,
    pub(super) places: Vec<Place>,
    pub(super) lines: Vec<Line>,
    arrivals: u64,
    turns: u64,
    pub(super) shut: Option<Instant>,
    epoch: Instant,
    /// Breakers whose state has changed, by the numbers of endpoint and model; taken after every step.
    changed: Vec<(usize, usize)>,
}

/// An endpoint.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// By the model's number; as many as there are lines.
    pub(super) cells: Vec<Cell>,
    /// The model that it takes no other's calls for, until it can change to it.
    pub(super) turning: Option<usize>,
    /// When it was last chosen, in turns.
    pub(super) turn: u64,
}

/// The calls that wait for a model.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) model: Arc<str>,
    pub(super) waiting: BTreeMap<u64, Waiter>,
    /// When a call of it was last let through.
    pub(super) served: Option<Instant>,
    /// Since when no endpoint can be asked for it, or those that can have too much to do.
    pub(super) down: Option<Instant>,
    /// Which call keeps the time for this line, and for when.
    pub(super) armed: Option<(u64, Instant)>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) arrived: Instant,
    /// Whether it waits for this model and no other.
    pub(super) stays: bool,
    pub(super) seat: Arc<Seat>,
}

/// A call's turn: who came before goes before, also when it gets back in line.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Turn {
    pub(in crate::llm) ticket: u64,
    arrived: Instant,
}

/// What became of a call at its arrival.
#[derive(Debug)]
pub(in crate::llm) enum Arrival {
    Granted(Grant),
    /// It stands in line.
    Waits(Arc<Seat>),
    /// No endpoint can be asked for the model, and it does not stay for one.
    Leaves,
}

/// How a call ended, as far as the endpoint goes.
#[derive(Debug)]
pub(in crate::llm) struct Ending<'a> {
    pub(in crate::llm) blame: Blame,
    pub(in crate::llm) fault: Option<&'a Fault>,
    /// How long the server says it took to get the model ready.
    pub(in crate::llm) load: Option<Duration>,
}

impl Board {
    pub(in crate::llm) fn new(rules: Rules, places: usize, epoch: Instant) -> Self {
        let places = (0..places).map(|_| Place::default()).collect();
        let (lines, changed) = (Vec::new(), Vec::new());
        Self { rules, places, lines, arrivals: 0, turns: 0, shut: None, epoch, changed }
    }

    /// Returns the number of a model; `None` when there are too many.
    pub(in crate::llm) fn model(&mut self, name: &Arc<str>) -> Option<usize> {
        if let Some(known) = self.lines.iter().position(|line| line.model == *name) {
            return Some(known);
        }
        if self.lines.len() >= MODELS_MAX {
            return None;
        }
        let (model, waiting) = (Arc::clone(name), BTreeMap::new());
        self.lines.push(Line { model, waiting, served: None, down: None, armed: None });
        let epoch = self.epoch;
        self.places.iter_mut().for_each(|place| place.cells.push(Cell::new(epoch)));
        Some(self.lines.len() - 1)
    }

    /// Returns the turn of a call that has not been in line.
    pub(in crate::llm) fn turn(&mut self, now: Instant) -> Turn {
        self.arrivals += 1;
        Turn { ticket: self.arrivals, arrived: now }
    }

    /// Takes a call: it goes at once where nobody is before it and an endpoint has room, else it gets in line.
    pub(in crate::llm) fn arrive(
        &mut self,
        model: usize,
        stays: bool,
        Turn { ticket, arrived }: Turn,
        now: Instant,
    ) -> Arrival {
        let is_first = |line: &Line| line.waiting.keys().next().is_none_or(|head| *head > ticket);
        let first = self.lines.get(model).is_some_and(is_first);
        if first && !self.is_shut(now) {
            // Who waits for another model was first, so nobody's endpoint is changed by a newcomer.
            if let Choice::Go(place) = self.choose(model, arrived, now, Reach::AtHome)
                && let Some(grant) = self.grant(place, model, now)
            {
                return Arrival::Granted(grant);
            }
        }
        if !stays && !self.is_served(model, now) {
            return Arrival::Leaves;
        }
        let seat = Arc::<Seat>::default();
        if let Some(line) = self.lines.get_mut(model) {
            line.waiting.insert(ticket, Waiter { arrived, stays, seat: Arc::clone(&seat) });
        }
        if first {
            self.pump(now);
        }
        Arrival::Waits(seat)
    }

    /// Takes a call out of its line that waits no longer.
    pub(in crate::llm) fn give_up(&mut self, model: usize, ticket: u64, now: Instant) {
        let line = self.lines.get_mut(model);
        let gone = line.and_then(|line| {
            let head = line.waiting.first_key_value().map(|(head, _)| *head);
            line.waiting.remove(&ticket)?;
            head
        });
        // Only the first in line keeps anything waiting: its own endpoint, or those behind it.
        if gone == Some(ticket) {
            self.pump(now);
        }
    }

    /// Takes a permit back.
    pub(in crate::llm) fn release(&mut self, grant: &Grant, ending: &Ending<'_>, now: Instant) {
        let (limits, everywhere) = (self.rules.breaker, ending.blame.is_of_all_models());
        let Some(place) = self.places.get_mut(grant.place) else { return };
        for (model, cell) in place.cells.iter_mut().enumerate() {
            if model == grant.model || everywhere {
                let before = cell.breaker.state();
                let is_trial = grant.is_trial && model == grant.model;
                cell.breaker.ended(ending.blame, is_trial, limits, now);
                if cell.breaker.state() != before {
                    self.changed.push((grant.place, model));
                }
                cell.ended(ending);
            }
        }
        let Some(cell) = place.cells.get_mut(grant.model) else { return };
        cell.calls = cell.calls.saturating_sub(1);
        let asked = ending.fault.and_then(Fault::after);
        match ending.blame {
            Blame::Nobody => {
                cell.unfit_until = None;
                cell.busy.answered(self.rules.permits);
            }
            Blame::Unknown => {}
            Blame::Load => cell.busy.refused(asked, cell.calls, limits, now),
            Blame::Unfit => {
                (cell.unfit_until, cell.resident) = (Some(now + UNFIT_FOR), false);
                cell.busy.took(self.rules.permits);
            }
            Blame::Endpoint => {
                cell.busy.took(self.rules.permits);
                cell.busy.leave_alone(asked.unwrap_or_default(), now);
            }
            Blame::Connection | Blame::Stuck | Blame::Deaf => {
                cell.busy.leave_alone(asked.unwrap_or_default(), now);
            }
        }
        if grant.is_swap {
            cell.load = ending.load.or(cell.load);
        }
        self.pump(now);
    }

    /// Takes note of which models an endpoint says are loaded.
    pub(in crate::llm) fn resident(
        &mut self,
        place: usize,
        is_listed: impl Fn(&str) -> bool,
        now: Instant,
    ) {
        let Some(place) = self.places.get_mut(place) else { return };
        for (cell, line) in place.cells.iter_mut().zip(&self.lines) {
            // What was just sent there is being loaded, or will be.
            cell.resident = is_listed(&line.model) || (cell.resident && cell.calls > 0);
        }
        self.pump(now);
    }

    /// Takes note of whether an endpoint can be reached.
    pub(in crate::llm) fn heard(&mut self, place: usize, is_there: bool, now: Instant) {
        let Some(place) = self.places.get_mut(place) else { return };
        for cell in &mut place.cells {
            match is_there {
                true => cell.breaker.reached(now),
                false => cell.breaker.unreached(now),
            }
        }
        self.pump(now);
    }

    /// Lets nobody through before `until`, unless it is opened.
    pub(in crate::llm) fn shut(&mut self, until: Instant) {
        self.shut = Some(until);
    }

    pub(in crate::llm) fn open(&mut self, now: Instant) {
        if self.shut.take().is_some() {
            self.pump(now);
        }
    }

    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.shut.is_some_and(|until| now < until)
    }

    /// Returns whether any endpoint may be asked for a model.
    pub(in crate::llm) fn is_served(&self, model: usize, now: Instant) -> bool {
        self.open_cells(model, now).next().is_some()
    }

    /// Returns a model at the endpoints that have it and don't rest from it, whatever they have to do.
    pub(super) fn open_cells(&self, model: usize, now: Instant) -> impl Iterator<Item = &Cell> {
        let cells = self.places.iter().filter_map(move |place| place.cells.get(model));
        cells.filter(move |cell| {
            cell.is_fit(now) && matches!(cell.breaker.pass(now), Pass::Free | Pass::Trial)
        })
    }

    /// Returns whether another endpoint than this one stands ready for a model, with nothing against it.
    pub(in crate::llm) fn is_ready_beside(&self, place: usize, model: usize, now: Instant) -> bool {
        self.beside(place, model)
            .any(|cell| cell.is_fit(now) && cell.pass(now) == Pass::Free && !cell.is_doubted(now))
    }

    /// Returns whether another endpoint than this one serves a model, though it may rest or have too much to do.
    pub(in crate::llm) fn is_fit_beside(&self, place: usize, model: usize, now: Instant) -> bool {
        self.beside(place, model).any(|cell| cell.is_fit(now))
    }

    /// Returns whether any endpoint serves a model, though it may rest or have too much to do.
    pub(super) fn is_fit(&self, model: usize, now: Instant) -> bool {
        self.beside(usize::MAX, model).any(|cell| cell.is_fit(now))
    }

    fn beside(&self, place: usize, model: usize) -> impl Iterator<Item = &Cell> {
        let others = self.places.iter().enumerate().filter(move |(number, _)| *number != place);
        others.filter_map(move |(_, place)| place.cells.get(model))
    }

    /// Returns the breakers that have changed since this was asked, and where they stand.
    pub(in crate::llm) fn take_changed(&mut self) -> Vec<(usize, Arc<str>, BreakerState)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let told = changed.filter_map(|(place, model)| {
            let cell = self.places.get(place)?.cells.get(model)?;
            Some((place, Arc::clone(&self.lines.get(model)?.model), cell.breaker.state()))
        });
        told.collect()
    }

    /// Returns how many models were ever asked for.
    pub(in crate::llm) fn models(&self) -> usize {
        self.lines.len()
    }

    /// Returns whether an endpoint rests from any model.
    pub(in crate::llm) fn is_resting(&self, place: usize) -> bool {
        let cells = self.places.get(place).into_iter().flat_map(|place| &place.cells);
        cells.into_iter().any(|cell| cell.breaker.state() != BreakerState::Closed)
    }

    /// Returns when the call with this number has to look again, if it is the one that keeps the time.
    pub(in crate::llm) fn alarm(&self, model: usize, ticket: u64) -> Option<Instant> {
        let (keeper, at) = self.lines.get(model)?.armed?;
        (keeper == ticket).then_some(at)
    }

    /// Lets through whom nothing keeps any more.
    pub(in crate::llm) fn pump(&mut self, now: Instant) {
        if !self.is_shut(now) {
            self.end_vain_turns();
            let mut lines: Vec<usize> = Vec::new();
            loop {
                lines.clear();
                let ready = self.lines.iter().enumerate();
                lines.extend(ready.filter(|(_, line)| !line.waiting.is_empty()).map(|(m, _)| m));
                lines.sort_by_key(|model| self.head(*model).map(|(ticket, _)| ticket));
                // A model is changed only where nothing else can be done with the endpoint.
                let mut passes = [Reach::AtHome, Reach::Anywhere]
                    .into_iter()
                    .flat_map(|r| lines.iter().map(move |m| (*m, r)));
                if !passes.any(|(model, reach)| self.serve(model, reach, now)) {
                    break;
                }
            }
        }
        for model in 0..self.lines.len() {
            self.look_after(model, now);
        }
    }

    /// Lets the first of a line through, if an endpoint takes it.
    fn serve(&mut self, model: usize, reach: Reach, now: Instant) -> bool {
        let Some((ticket, arrived)) = self.head(model) else { return false };
        let place = match self.choose(model, arrived, now, reach) {
            Choice::Go(place) => place,
            Choice::Turn(place) => {
                if let Some(place) = self.places.get_mut(place) {
                    place.turning = Some(model);
                }
                return false;
            }
            Choice::None => return false,
        };
        let Some(grant) = self.grant(place, model, now) else { return false };
        let waiter = self.lines.get_mut(model).and_then(|line| line.waiting.remove(&ticket));
        waiter.into_iter().for_each(|waiter| waiter.seat.tell(Word::Granted(grant.clone())));
        true
    }

    fn grant(&mut self, place: usize, model: usize, now: Instant) -> Option<Grant> {
        self.turns += 1;
        let swaps = self.rules.swaps;
        let number = place;
        let place = self.places.get_mut(number)?;
        place.turn = self.turns;
        place.turning = place.turning.filter(|turning| *turning != model);
        let is_swap = swaps && !place.cells.get(model)?.resident;
        if is_swap {
            // The worst is assumed, that it has room for one only; what it says itself counts for more.
            place.cells.iter_mut().for_each(|cell| cell.resident = false);
        }
        let cell = place.cells.get_mut(model)?;
        // Where the breaker is not closed, others have failed there as well: each call costs its attempt.
        let is_try = cell.busy.is_tried() && cell.breaker.state() == BreakerState::Closed;
        cell.resident = true;
        cell.calls += 1;
        let is_trial = cell.breaker.begin_trial();
        if is_trial {
            self.changed.push((number, model));
        }
        let pulse = Arc::clone(&cell.pulse);
        self.lines.get_mut(model)?.served = Some(now);
        Some(Grant { place: number, model, is_swap, is_try, is_trial, pulse })
    }

    pub(super) fn head(&self, model: usize) -> Option<(u64, Instant)> {
        let (ticket, waiter) = self.lines.get(model)?.waiting.first_key_value()?;
        Some((*ticket, waiter.arrived))
    }
}
