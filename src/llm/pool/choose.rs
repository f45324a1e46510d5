//! Which endpoint takes the next call of a model.
//!
//! Where it is loaded, the endpoint with the fewest calls. One without any model counts as if it had a few calls more,
//! since it has to load first. One that holds another model is left alone while that model has work: it changes when
//! it has none and the call has waited for as long as the change takes, or when calls have waited past their patience
//! and none of their model was let through anywhere (or only for as long as the change takes, where the model is at no
//! endpoint and the other at several). It then takes no more calls of the other model and changes when
//! the last is done. So the same two models on two endpoints settle on one each, and on one endpoint take turns.

use std::time::Duration;

use tokio::time::Instant;

use super::board::{Board, Place};
use super::breaker::Pass;
use super::cell::Cell;

/// How many calls more an endpoint counts that has no model loaded.
const COLD: usize = 2;

/// How long a change takes where none was seen yet.
const SWAP_GUESS: Duration = Duration::from_secs(2);

/// Where a model's calls may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Where it is loaded, or nothing is.
    AtHome,
    /// Also where another model is, under conditions.
    Anywhere,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// This endpoint takes it.
    Go(usize),
    /// This one will, and until then takes no calls of other models.
    Turn(usize),
    /// None can.
    None,
}

/// The order among endpoints that can take a call; the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// 0 for one that has to be tried, 1 for most, 2 for one that failed a moment ago.
    doubt: u8,
    load: usize,
    turn: u64,
}

impl Board {
    /// Chooses an endpoint for a call that has been in line since `arrived`.
    pub(super) fn choose(
        &self,
        model: usize,
        arrived: Instant,
        now: Instant,
        reach: Reach,
    ) -> Choice {
        let anywhere_fit = self.is_fit(model, now);
        let able = self.places.iter().enumerate().filter_map(|(number, place)| {
            let rank = self.rank(place, model, now, anywhere_fit)?;
            Some((rank, number, place))
        });
        let home = able.clone().filter(|(_, _, place)| self.is_open_to(place, model));
        match (home.map(|(rank, number, _)| (rank, number)).min(), reach) {
            (Some((_, number)), _) => Choice::Go(number),
            (None, Reach::AtHome) => Choice::None,
            (None, Reach::Anywhere) => self.change(model, arrived, now, &able.collect::<Vec<_>>()),
        }
    }

    /// Returns when a call that has been in line since `arrived` may make an endpoint change.
    pub(super) fn swap_times(
        &self,
        model: usize,
        arrived: Instant,
    ) -> impl Iterator<Item = Instant> {
        let swaps = self.rules.swaps && self.lines.len() > 1;
        let cells = self.places.iter().filter_map(move |place| place.cells.get(model));
        let early = cells.map(move |cell| arrived + self.cost(cell));
        early.chain([self.since(model, arrived) + self.rules.patience]).filter(move |_| swaps)
    }

    /// Ranks an endpoint; `None` where it can't take a call of the model, whichever it holds.
    fn rank(&self, place: &Place, model: usize, now: Instant, anywhere_fit: bool) -> Option<Rank> {
        let cell = place.cells.get(model)?;
        if cell.calls >= cell.busy.room(self.rules.permits) || (anywhere_fit && !cell.is_fit(now)) {
            return None;
        }
        let doubt = match cell.pass(now) {
            Pass::Trial => 0,
            Pass::Free if cell.breaker.is_doubted(now) => 2,
            Pass::Free if cell.busy.is_doubted() => 0,
            Pass::Free => 1,
            Pass::Until(_) | Pass::Tried => return None,
        };
        let calls: usize = place.cells.iter().map(|cell| cell.calls).sum();
        let cold = if self.rules.swaps && !cell.resident { COLD } else { 0 };
        Some(Rank { doubt, load: calls + cold, turn: place.turn })
    }

    /// Returns whether an endpoint takes a call of the model without giving up another.
    fn is_open_to(&self, place: &Place, model: usize) -> bool {
        if !self.rules.swaps {
            return true;
        }
        let is_kept =
            |(number, cell): (usize, &Cell)| number != model && (cell.resident || cell.calls > 0);
        let is_home = place.cells.get(model).is_some_and(|cell| cell.resident);
        match place.turning {
            Some(other) if other != model => false,
            Some(_) => !has_others_calls(place, model),
            None => is_home || !place.cells.iter().enumerate().any(is_kept),
        }
    }

    /// Chooses an endpoint that gives up its model for this one.
    fn change(
        &self,
        model: usize,
        arrived: Instant,
        now: Instant,
        able: &[(Rank, usize, &Place)],
    ) -> Choice {
        let since = self.since(model, arrived);
        let turns = self.places.iter().any(|place| place.turning == Some(model));
        let mut best = None;
        for (rank, number, place) in able.iter().filter(|(_, _, place)| place.turning.is_none()) {
            let cost = place.cells.get(model).map_or(SWAP_GUESS, |cell| self.cost(cell));
            let (is_busy, is_wanted) =
                (has_others_calls(place, model), self.is_wanted(place, model));
            let spare = self.is_homeless(model) && self.is_spare(place, model);
            let choice = if !is_busy && !is_wanted && now >= arrived + cost {
                Choice::Go(*number)
            } else if turns || now < since + if spare { cost } else { self.rules.patience } {
                continue;
            } else if is_busy {
                Choice::Turn(*number)
            } else {
                Choice::Go(*number)
            };
            // Rather one that nobody else wants, then one whose model another endpoint has as well.
            let order = (is_wanted, !spare, *rank, *number);
            if best.is_none_or(|(least, _)| order < least) {
                best = Some((order, choice));
            }
        }
        best.map_or(Choice::None, |(_, choice)| choice)
    }

    /// Returns whether calls wait for a model that the endpoint holds.
    fn is_wanted(&self, place: &Place, model: usize) -> bool {
        let mut cells = place.cells.iter().zip(&self.lines).enumerate();
        cells.any(|(n, (cell, line))| n != model && cell.resident && !line.waiting.is_empty())
    }

    /// Returns whether every model that the endpoint holds is at another one as well.
    fn is_spare(&self, place: &Place, model: usize) -> bool {
        let mut cells = place.cells.iter().enumerate().filter(|(n, _)| *n != model);
        cells.all(|(number, cell)| !cell.resident || self.homes(number) > 1)
    }

    fn is_homeless(&self, model: usize) -> bool {
        self.homes(model) == 0
    }

    fn homes(&self, model: usize) -> usize {
        let cells = self.places.iter().filter_map(|place| place.cells.get(model));
        cells.filter(|cell| cell.resident).count()
    }

    /// Returns since when a call has waited while none of its model was let through.
    fn since(&self, model: usize, arrived: Instant) -> Instant {
        let served = self.lines.get(model).and_then(|line| line.served);
        served.map_or(arrived, |served| served.max(arrived))
    }

    fn cost(&self, cell: &Cell) -> Duration {
        cell.load.unwrap_or(SWAP_GUESS).min(self.rules.patience)
    }
}

fn has_others_calls(place: &Place, model: usize) -> bool {
    place.cells.iter().enumerate().any(|(number, cell)| number != model && cell.calls > 0)
}
