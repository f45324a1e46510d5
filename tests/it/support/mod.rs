//! What the tests share.

pub mod kafka;
pub mod model_server;
pub mod process;
pub mod vectors;
