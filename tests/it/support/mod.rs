//! What the tests share.

pub mod kafka;
pub mod model_server;
pub mod vectors;
