//! Every test that sees weir from outside, in one binary.

mod support;

mod configuration;
mod event_vectors;
mod kafka_group;
mod kafka_recovery;
mod kafka_start;
mod kafka_transactions;
mod langgraph_vectors;
mod llm;
mod metrics_doc;
mod ollama_exchange_vectors;
mod schemas;
mod workflow_vectors;
