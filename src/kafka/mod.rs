//! What source and sink share of Kafka: the way in, who we are there, and what its errors mean.
//!
//! Configuration goes in, librdkafka's clients come out; [`Kind`] is the one place where its error codes are judged. The
//! types of rdkafka stay in this room, in source and in sink.
//! The one module of weir with `unsafe` in it is `native`.

mod admin;
mod bootstrap;
mod client;
mod config;
mod context;
mod error;
mod holding;
mod identity;
mod member;
mod mock;
mod native;
mod offsets;
mod outside;
mod report;
pub(crate) mod thread;

#[cfg(test)]
mod tests;

pub use config::{
    AutoOffsetReset, Config, ForeignMetadata, GroupProtocol, Properties, SaslMechanism,
    SecurityProtocol,
};
pub use error::{Error, Kind};
pub use identity::{Error as IdentityError, Identity};
pub use member::{Member, Membership};
pub use mock::Mock;
pub use outside::{Outside, Seen, Tail};
pub use report::Reporter;

pub(crate) use admin::{Admin, TopicInfo, TopicSettings};
pub(crate) use bootstrap::{Bootstrap, Bootstrapped, rebootstrap, rebootstrap_late};
pub(crate) use client::{ProducerSizes, producer, watermarks};
pub(crate) use context::{MemberContext, Plain, Rebalance, give_up};
pub(crate) use member::{Consuming, position_list};
pub(crate) use native::{GroupMetadata, Refusal, header, lines, send_offsets};
pub(crate) use offsets::{
    Committed, Ends, Pending, committed, ends, hanging_hint, longest_transaction, reader,
};
pub(crate) use outside::ask_patiently;

/// Returns the version of librdkafka that is linked in.
#[must_use]
pub fn client_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}
