//! What has to be done for those in line though no call ends: who waits in vain is sent away, and the first of each line
//! is woken when there is something to decide.

use tokio::time::Instant;

use super::board::{Board, Line, Waiter};
use super::breaker::Pass;
use super::seat::Word;
use crate::llm::error::Fault;

impl Board {
    /// Lets an endpoint go on with its model where nobody waits any more for the other.
    pub(super) fn end_vain_turns(&mut self) {
        for place in &mut self.places {
            let waits = |model| self.lines.get(model).is_some_and(|l: &Line| !l.waiting.is_empty());
            place.turning = place.turning.filter(|model| waits(*model));
        }
    }

    /// Sends those away who wait in vain, and sees to it that somebody wakes when there is something to decide.
    pub(super) fn look_after(&mut self, model: usize, now: Instant) {
        let (is_down, is_held) = (!self.is_served(model, now), self.is_held(model, now));
        let last =
            if is_held && !self.is_tried(model, now) { self.last_fault(model) } else { None };
        let patience = self.rules.rest_patience;
        let Some(line) = self.lines.get_mut(model) else { return };
        line.down = is_held.then(|| line.down.unwrap_or(now));
        if let Some(since) = line.down {
            for (_, waiter) in line.waiting.extract_if(.., |_, waiter| is_down && !waiter.stays) {
                waiter.seat.tell(Word::Leave);
            }
            let is_over = |waiter: &Waiter| waiter.arrived.max(since) + patience <= now;
            while let Some((place, fault)) = &last
                && let Some(first) = line.waiting.first_entry()
                && is_over(first.get())
            {
                first.remove().seat.tell(Word::Failed(*place, fault.clone()));
            }
        }
        let alarm = self.head(model).and_then(|(ticket, arrived)| {
            let at = self.alarm_of(model, arrived, now)?;
            Some((ticket, at))
        });
        let Some(line) = self.lines.get_mut(model) else { return };
        if alarm.is_some() && line.armed != alarm {
            line.waiting.first_key_value().into_iter().for_each(|(_, waiter)| waiter.seat.wake());
        }
        line.armed = alarm;
    }

    /// Returns when the first of a line may be let through, or must be sent away, though nothing else happens.
    fn alarm_of(&self, model: usize, arrived: Instant, now: Instant) -> Option<Instant> {
        let line = self.lines.get(model)?;
        let down = line.down.map(|since| arrived.max(since) + self.rules.rest_patience);
        let cells = self.places.iter().filter_map(|place| place.cells.get(model));
        let rests = cells.filter_map(|cell| match cell.pass(now) {
            Pass::Until(until) => Some(until),
            Pass::Free | Pass::Trial | Pass::Tried => cell.unfit_until,
        });
        let swaps = self.swap_times(model, arrived);
        rests.chain(swaps).chain(down).chain(self.shut).filter(|at| *at > now).min()
    }

    /// Returns whether nobody can be asked for a model, or nobody has answered since it had too much to do.
    fn is_held(&self, model: usize, now: Instant) -> bool {
        !self
            .open_cells(model, now)
            .any(|cell| !cell.busy.is_doubted() && cell.busy.until(now).is_none())
    }

    /// Returns whether a call is under way that tries an endpoint: one that had too much to do and has not refused it
    /// yet, or one that rested and may need long to load the model.
    fn is_tried(&self, model: usize, now: Instant) -> bool {
        let mut cells = self.places.iter().filter_map(|place| place.cells.get(model));
        cells.any(|cell| cell.breaker.pass(now) == Pass::Tried)
            || self.open_cells(model, now).any(|cell| cell.calls > 0)
    }

    /// Returns what an endpoint said last, rather one that serves the model.
    fn last_fault(&self, model: usize) -> Option<(usize, Fault)> {
        let faults = self.places.iter().enumerate().filter_map(|(number, place)| {
            let cell = place.cells.get(model)?;
            Some((cell.unfit_until.is_some(), number, cell.fault.clone()?))
        });
        let least = faults.min_by_key(|(is_unfit, number, _)| (*is_unfit, *number));
        least.map(|(_, number, fault)| (number, fault))
    }
}
