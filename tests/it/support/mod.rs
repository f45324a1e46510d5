//! What the tests share.

pub(crate) mod counting_model;
pub(crate) mod fickle_model;
pub(crate) mod kafka;
pub(crate) mod ledger;
pub(crate) mod model_server;
pub(crate) mod ollama;
pub(crate) mod own_broker;
pub(crate) mod process;
pub(crate) mod real_ollama;
#[cfg(feature = "failpoints")]
pub(crate) mod scene;
pub(crate) mod vectors;
