//! Whether an endpoint is asked for a model, or rests.
//!
//! Counts only what is the endpoint's own fault. After so many in a row it rests; then exactly one call tries it, and
//! what becomes of that call decides. Each rest that a failed trial follows is twice the one before, up to a limit.
//! Never reads a clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::llm::error::{Cut, Fault, Phase};

/// How long an endpoint that could not be reached is left to the probe, which asks more often than that.
const UNREACHED: Duration = Duration::from_secs(5);

/// When an endpoint rests, and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Limits {
    pub(in crate::llm) faults: u32,
    pub(in crate::llm) rest: Duration,
    pub(in crate::llm) rest_max: Duration,
}

/// What a call's end says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::llm) enum Blame {
    /// It works: it answered, if only to say that the request is wrong.
    Nobody,
    /// Nothing: the call was dropped, took all the time that it had, or the model did not come to an end.
    Unknown,
    /// It has more to do than it can, or than this caller may ask. Nothing was done.
    Load,
    /// It can't serve this model, as it is set up now. Nothing was done, so nothing was paid.
    Unfit,
    /// It failed.
    Endpoint,
    /// It could not be reached, whichever model was meant. Nothing was sent.
    Connection,
    /// It holds calls and does not work on them.
    Stuck,
    /// It does not answer at all, whichever model is meant.
    Deaf,
}

/// Where a breaker stands, as the figures have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call tries.
    HalfOpen,
    /// The endpoint rests.
    Open,
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Any call.
    Free,
    /// One call, which decides.
    Trial,
    /// None, and from when on one.
    Until(Instant),
    /// None while a trial runs.
    Tried,
}

/// The breaker of one model at one endpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    state: State,
    /// The last rest; zero after a call that went well.
    rest: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { faults: u32 },
    Open { until: Instant, unreached: bool },
    Trial { unreached: bool },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { faults: 0 }
    }
}

impl Blame {
    /// Sorts a fault.
    pub(in crate::llm) fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Unreachable { .. } => Self::Connection,
            Fault::Timeout { phase, .. } => match phase {
                Phase::Connect => Self::Connection,
                Phase::FirstByte | Phase::Idle => Self::Endpoint,
                // It may have been at work all the time.
                Phase::Total => Self::Unknown,
                Phase::Frozen => Self::Stuck,
                Phase::Unresponsive => Self::Deaf,
            },
            Fault::Reset { .. }
            | Fault::ServerError { .. }
            | Fault::Truncated { cut: Cut::Broken, .. }
            | Fault::BadOutput { .. } => Self::Endpoint,
            Fault::Truncated { cut: Cut::Ended | Cut::EndedForGood, .. } => Self::Unknown,
            Fault::RateLimited { .. } | Fault::Overloaded { .. } => Self::Load,
            Fault::ModelMissing { .. }
            | Fault::WrongUrl { .. }
            | Fault::Redirected { .. }
            | Fault::Unauthorized { .. } => Self::Unfit,
            Fault::InvalidRequest { .. }
            | Fault::ContextOverflow { .. }
            | Fault::SchemaMismatch { .. }
            | Fault::TooLarge { .. } => Self::Nobody,
        }
    }

    /// Returns whether the call cost nothing, so that it may be made elsewhere at once.
    pub(in crate::llm) fn is_free(self) -> bool {
        match self {
            Self::Unfit | Self::Connection | Self::Load => true,
            Self::Nobody | Self::Unknown | Self::Endpoint | Self::Stuck | Self::Deaf => false,
        }
    }
}

impl Blame {
    /// Returns whether it says the same about every model at the endpoint.
    pub(super) fn is_of_all_models(self) -> bool {
        match self {
            Self::Connection | Self::Deaf => true,
            Self::Nobody
            | Self::Unknown
            | Self::Load
            | Self::Unfit
            | Self::Endpoint
            | Self::Stuck => false,
        }
    }
}

impl Breaker {
    pub(super) fn pass(&self, now: Instant) -> Pass {
        match self.state {
            State::Closed { .. } => Pass::Free,
            State::Open { until, .. } if until <= now => Pass::Trial,
            State::Open { until, .. } => Pass::Until(until),
            State::Trial { .. } => Pass::Tried,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Trial { .. } => BreakerState::HalfOpen,
        }
    }

    /// Returns whether it failed the last time it was asked.
    pub(super) fn is_doubted(&self) -> bool {
        !matches!(self.state, State::Closed { faults: 0 })
    }

    /// Lets a call through, and returns whether it is the one that decides.
    pub(super) fn begin_trial(&mut self) -> bool {
        if let State::Open { unreached, .. } = self.state {
            self.state = State::Trial { unreached };
        }
        matches!(self.state, State::Trial { .. })
    }

    /// Takes note of a call's end.
    pub(super) fn ended(&mut self, blame: Blame, limits: Limits, now: Instant) {
        match (self.state, blame) {
            // Also the late success of a call that began before the rest: the endpoint works.
            (_, Blame::Nobody) | (State::Trial { .. }, Blame::Unfit) => *self = Self::default(),
            (State::Trial { unreached }, Blame::Unknown) => {
                self.state = State::Open { until: now, unreached };
            }
            // As long as the last rest: it is not the endpoint's fault, and nothing is gained by asking at once.
            (State::Trial { unreached }, Blame::Load) => {
                self.state = State::Open { until: now + self.rest, unreached };
            }
            (State::Closed { .. } | State::Open { .. }, Blame::Unknown | Blame::Load)
            | (State::Closed { .. } | State::Open { .. }, Blame::Unfit) => {}
            (State::Open { .. }, Blame::Endpoint | Blame::Connection) => {}
            (State::Closed { faults }, Blame::Endpoint | Blame::Connection)
                if faults + 1 < limits.faults =>
            {
                self.state = State::Closed { faults: faults + 1 };
            }
            (State::Open { .. }, Blame::Stuck | Blame::Deaf) => {}
            (_, Blame::Endpoint | Blame::Connection | Blame::Stuck | Blame::Deaf) => {
                let unreached = matches!(blame, Blame::Connection | Blame::Deaf);
                let rest = (self.rest * 2).max(limits.rest).min(limits.rest_max);
                let until = now + if unreached { rest.max(UNREACHED) } else { rest };
                *self = Self { state: State::Open { until, unreached }, rest };
            }
        }
    }

    /// Ends the rest of an endpoint that could not be reached and now can.
    pub(super) fn reached(&mut self, now: Instant) {
        if let State::Open { until, unreached: true } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Goes on with the rest of an endpoint that can't be reached, without wasting a call on it.
    pub(super) fn unreached(&mut self, now: Instant) {
        if let State::Open { until, unreached: true } = &mut self.state {
            *until = (now + UNREACHED).max(*until);
        }
    }
}
