//! Counts what the model's client does.

use crate::llm::{BreakerState, Observation};
use crate::telemetry::{LlmCall, Metrics};

/// Takes note of one thing that the client did.
pub(super) fn observe(metrics: &Metrics, seen: &Observation<'_>) {
    match seen {
        Observation::Admitted(wait) => metrics.llm_permit_wait(*wait),
        Observation::Began(endpoint) => metrics.llm_in_flight(endpoint, 1),
        Observation::Breaker { endpoint, model, state } => {
            let state = match state {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            metrics.llm_breaker(endpoint, model, state);
        }
        Observation::Ended(report) => {
            metrics.llm_in_flight(report.endpoint, -1);
            let usage = report.usage.unwrap_or_default();
            metrics.llm_call(&LlmCall {
                provider: report.provider,
                model: report.model,
                outcome: report.outcome,
                total: report.total,
                first_byte: report.first_byte,
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
            });
        }
    }
}
