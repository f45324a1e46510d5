//! What the benches against a real broker share.

pub(crate) mod broker;
pub(crate) mod closed_loop;
pub(crate) mod events;
pub(crate) mod figures;
pub(crate) mod hop;
pub(crate) mod process;
pub(crate) mod producer;
pub(crate) mod raw;
pub(crate) mod stand_in;
