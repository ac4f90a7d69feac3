//! This instance and its peers, as the rest of the gateway sees them.

use std::time::Instant;

use crate::instance::Instance;
use crate::roster::Peer;

/// This instance and its peers, as of the newest look at the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    /// This instance, in its current incarnation.
    pub own: Instance,
    /// All other instances, sorted by id.
    pub others: Vec<Peer>,
    /// Time of the newest look at the store. `None` before the first one.
    pub seen: Option<Instant>,
    /// True if so many peers are silent at the same time that Redis or a clock is suspected rather than the peers.
    pub doubted: bool,
}
