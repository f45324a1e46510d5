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

/// For how long the probe may say that it can't be reached: one that is slow to answer the probe may serve calls.
const PROBED: Duration = Duration::from_mins(1);

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
    /// Until when others are asked rather, since it failed.
    doubted: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        faults: u32,
    },
    /// The probe's word counts until `probed`, where it could not be reached.
    Open {
        until: Instant,
        probed: Option<Instant>,
    },
    Trial {
        probed: Option<Instant>,
    },
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
                Phase::FirstByte => Self::Endpoint,
                // It may have been at work all the time.
                Phase::Total => Self::Unknown,
                Phase::Idle | Phase::Frozen => Self::Stuck,
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

    /// Returns whether it rests, or has failed the last time it was asked, a moment ago.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        let is_closed = matches!(self.state, State::Closed { .. });
        !is_closed || self.doubted.is_some_and(|until| until > now)
    }

    /// Lets a call through, and returns whether it is the one that decides.
    pub(super) fn begin_trial(&mut self) -> bool {
        if let State::Open { probed, .. } = self.state {
            self.state = State::Trial { probed };
        }
        matches!(self.state, State::Trial { .. })
    }

    /// Takes note of a call's end; `is_trial` where it is the one that decides.
    pub(super) fn ended(&mut self, blame: Blame, is_trial: bool, limits: Limits, now: Instant) {
        match (self.state, blame) {
            // Also the late success of a call that began before the rest: the endpoint works.
            (_, Blame::Nobody) => *self = Self::default(),
            // A call that began before the rest decides nothing, unless it failed.
            (State::Trial { .. }, Blame::Unfit | Blame::Unknown | Blame::Load) if !is_trial => {}
            (State::Trial { .. }, Blame::Unfit) => *self = Self::default(),
            (State::Trial { probed }, Blame::Unknown) => {
                self.state = State::Open { until: now, probed };
            }
            // As long as the last rest: it is not the endpoint's fault, and nothing is gained by asking at once.
            (State::Trial { probed }, Blame::Load) => {
                self.state = State::Open { until: now + self.rest, probed };
            }
            (State::Closed { .. } | State::Open { .. }, Blame::Unknown | Blame::Load)
            | (State::Closed { .. } | State::Open { .. }, Blame::Unfit) => {}
            (State::Open { .. }, Blame::Endpoint | Blame::Connection) => {}
            (State::Closed { faults }, Blame::Endpoint | Blame::Connection)
                if faults + 1 < limits.faults =>
            {
                self.state = State::Closed { faults: faults + 1 };
                self.doubted = Some(now + limits.rest);
            }
            (State::Open { .. }, Blame::Stuck | Blame::Deaf) => {}
            (_, Blame::Endpoint | Blame::Connection | Blame::Stuck | Blame::Deaf) => {
                let unreached = matches!(blame, Blame::Connection | Blame::Deaf);
                let rest = (self.rest * 2).max(limits.rest).min(limits.rest_max);
                let until = now + if unreached { rest.max(UNREACHED) } else { rest };
                let probed = unreached.then_some(now + PROBED);
                *self = Self { state: State::Open { until, probed }, rest, doubted: None };
            }
        }
    }

    /// Ends the rest of an endpoint that could not be reached and now can.
    pub(super) fn reached(&mut self, now: Instant) {
        if let State::Open { until, probed: Some(_) } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Goes on with the rest of an endpoint that can't be reached, without wasting a call on it, for a while.
    pub(super) fn unreached(&mut self, now: Instant) {
        if let State::Open { until, probed: Some(probed) } = &mut self.state {
            *until = (now + UNREACHED).max(*until).min(*probed);
        }
    }
}
