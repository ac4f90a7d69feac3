//! A peer: what the store lists of it, and what this instance concludes.

use std::time::Duration;

use crate::instance::{Instance, Status};
use crate::load::Load;

/// An instance's entry in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHeartbeat {
    /// The instance that wrote the entry.
    pub instance: Instance,
    /// Grows by one with each heartbeat of one incarnation.
    pub number: u64,
    /// Age of the entry by the store's clock.
    pub age: Duration,
    /// Load that the instance reports. `None` for a version that does not report it.
    pub load: Option<Load>,
}

/// A peer and its state, as this instance sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The peer's id, incarnation and address.
    pub instance: Instance,
    /// Whether the peer is alive.
    pub status: Status,
    /// For how long its heartbeat number has not changed, counting only the time in which this instance looked.
    pub silent: Duration,
    /// Load that its newest heartbeat reports. `None` for a version that does not report it.
    pub load: Option<Load>,
    /// Number of its newest heartbeat.
    pub number: u64,
}
