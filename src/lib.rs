//! weir runs agent workflows from a Kafka topic: a workflow event comes in, a multi-agent graph runs, and exactly
//! one result goes out, whatever crashes; an answer of a model that was paid for is not paid for twice.
//!
//! The rooms, in the order of an event's way. ARCHITECTURE.md is the map.

pub mod record;
pub mod event;
pub mod source;
pub mod dispatch;
pub mod workflow;
pub mod graph;
pub mod agents;
pub mod llm;
pub mod journal;
pub mod sink;

pub mod kafka;
pub mod retry;
pub mod standing;
pub mod config;
pub mod telemetry;
pub mod admin;
pub mod shutdown;
pub mod systemd;
pub mod service;
pub mod cli;
pub mod failpoint;
