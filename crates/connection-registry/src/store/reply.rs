//! The store's replies about a lease and about an instance's rows.

use wire::Timestamp;

use crate::instance::Incarnation;
use crate::instance_command::InstanceCommand;
use crate::lease::Token;

/// Reply to [`Store::acquire`](super::Store::acquire).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// The instance holds the lease.
    Granted {
        /// Token to send with every change.
        token: Token,
        /// Time of the store's clock. `None` if the store has no clock of its own.
        at: Option<Timestamp>,
        /// The incarnation that peers last saw under this instance id. It may have left rows behind.
        before: Option<Incarnation>,
    },
    /// Another incarnation holds the lease.
    Busy {
        /// Incarnation that holds the lease.
        holder: Incarnation,
    },
}

/// Reply to [`Store::renew`](super::Store::renew).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRenewal {
    /// Time of the store's clock. `None` if the store has no clock of its own.
    pub at: Option<Timestamp>,
    /// Rows of this instance, and commands for it.
    pub listed: DirectoryReply,
}

/// The store's knowledge of an instance's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryReply {
    /// Number of rows that the store has of this instance.
    pub rows: usize,
    /// Commands that this instance carries out.
    pub commands: Vec<InstanceCommand>,
}
