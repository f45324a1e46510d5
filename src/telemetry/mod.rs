//! What weir says about itself: figures, health and log lines.
//!
//! [`Metrics`] and [`Health`] are handles that the service makes once and hands to every room; there are no globals,
//! so a test makes its own. Recording never waits, never fails and never decides anything.

mod config;
pub mod health;
pub mod logs;
pub mod metrics;
mod process;
mod recording;
mod series;
mod table;

pub use config::{Config, Format};
pub use health::{Component, Health, Report};
pub use metrics::Metrics;
pub use recording::LlmCall;

#[cfg(test)]
mod tests;
