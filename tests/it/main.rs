//! Every test that sees weir from outside, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on fails; clippy exempts test functions but not their helpers"
)]

mod support;

mod chaos;
mod cli;
mod configuration;
#[cfg(feature = "failpoints")]
mod controls;
#[cfg(feature = "failpoints")]
mod crash_points;
mod deadlines;
mod event_vectors;
mod examples;
mod graph_allocations;
mod house;
mod kafka_group;
mod kafka_hanging;
#[cfg(feature = "failpoints")]
mod kafka_outage;
mod kafka_recovery;
mod kafka_start;
mod kafka_transactions;
mod langgraph_vectors;
mod llm;
mod metrics_doc;
mod ollama_exchange_vectors;
mod schemas;
mod security;
mod service;
mod workflow_vectors;
