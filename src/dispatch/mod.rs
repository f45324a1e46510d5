//! Decides which event runs when and what may be committed, and has it done.
//! Every received event ends in exactly one committed transaction; its partition's other events never wait for it.
//! Knows nothing of Kafka's client, of the graph or of models.

mod config;
pub mod driver;
mod lanes;
pub mod machine;
pub mod offsets;

pub use config::{Config, DeliveryGuarantee, Ordering};
pub use driver::{Driver, End, Parts};

#[cfg(test)]
mod tests;
