//! Who this process is to Kafka, the same after each restart.
//!
//! A stable transactional id lets the next start end at once what the last one left open; without it the readers of the
//! results wait until the coordinator gives the dead transaction up. So the id is chosen, not drawn: the instance's
//! name, or this host's and the lowest number that no other process of the group on this host holds.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;

use crate::failpoint::{self, Mechanism};

/// How many processes of one group may share a host's name.
const SLOTS: usize = 4_096;

/// Who this process is; clones are the same process.
#[derive(Debug, Clone)]
pub struct Identity {
    instance: Arc<str>,
    group: Arc<str>,
    /// Holds the slot: the kernel frees an abstract socket's name the moment the process dies, however it dies.
    _slot: Option<Arc<UnixListener>>,
}

/// Why no identity could be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This host can't say its name.
    #[error("read this host's name")]
    Host(#[source] io::Error),
    /// Abstract Unix sockets are refused here.
    #[error("hold a slot of this host; set INSTANCE_ID instead")]
    Slot(#[source] io::Error),
    /// All slots are taken.
    #[error("{SLOTS} processes of the group run on this host already; set INSTANCE_ID")]
    Full,
}

impl Identity {
    /// Takes the name that the operator gave to this instance: unique in the group, and the same after a restart.
    #[must_use]
    pub fn named(group: &str, instance: &str) -> Self {
        Self { instance: instance.into(), group: group.into(), _slot: None }
    }

    /// Takes the lowest free slot of this host, for as long as the process lives.
    ///
    /// # Errors
    /// [`Error`], when the host has no name or no slot.
    pub fn of_this_host(group: &str) -> Result<Self, Error> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(Error::Host)?;
        Self::on_host(group, host.trim())
    }

    pub(super) fn on_host(group: &str, host: &str) -> Result<Self, Error> {
        for slot in 0..SLOTS {
            let instance = format!("{host}-{slot}");
            let address = SocketAddr::from_abstract_name(slot_name(group, &instance));
            match address.and_then(|address| UnixListener::bind_addr(&address)) {
                Ok(held) => {
                    return Ok(Self {
                        _slot: Some(Arc::new(held)),
                        ..Self::named(group, &instance)
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::Slot(error)),
            }
        }
        Err(Error::Full)
    }

    /// Returns the instance's name.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the id under which the coordinator knows this process's transactions.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        let id = format!("weir-{}-{}", self.group, self.instance);
        if failpoint::is_off(Mechanism::StableId) {
            format!("{id}-{}", std::process::id())
        } else {
            id
        }
    }
}

/// Returns the socket's name. An address holds 107 bytes, so long names go in as their checksums.
fn slot_name(group: &str, instance: &str) -> String {
    let name = format!("weir/{group}/{instance}");
    if name.len() <= 100 {
        return name;
    }
    let sums = (crc32fast::hash(group.as_bytes()), crc32fast::hash(instance.as_bytes()));
    format!("weir/{:08x}-{}/{:08x}-{}", sums.0, group.len(), sums.1, instance.len())
}
