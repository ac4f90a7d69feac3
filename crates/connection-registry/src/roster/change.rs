//! A change of the roster.

use crate::instance::Instance;

/// One change that a look at the store brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A peer, or a new incarnation of a peer, sends heartbeats.
    Joined(Instance),
    /// The peer has been silent for as long as its lease lasts.
    Suspected(Instance),
    /// The peer sends heartbeats again, in the same incarnation.
    Recovered(Instance),
    /// The peer has stopped, or has been silent for too long.
    Left(Instance),
    /// Many peers are silent at the same time, so that Redis or a clock is suspected. Reported once.
    ManyVanished {
        /// Number of silent peers.
        silent: usize,
        /// Number of all peers.
        of: usize,
    },
}
