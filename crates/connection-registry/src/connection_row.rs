//! A row of the directory: one connection, its user and its place.

use wire::{SessionId, TenantId, Timestamp, UserId};

/// One connection, as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Tenant of the user.
    pub tenant: TenantId,
    /// User that the connection belongs to.
    pub user: UserId,
    /// Index of the shard of this instance that holds the connection.
    pub shard: u16,
    /// Time of arrival. Here it is by this instance's clock. In the store it is by the store's clock, and the earliest
    /// possible time.
    pub connected_at: Timestamp,
}

/// A change of one row in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// The session is connected here. The timestamp is the latest possible time of arrival by the store's clock.
    Put(SessionId, ConnectionRow, Timestamp),
    /// The session is not connected here.
    Remove(SessionId),
}

impl RowChange {
    /// Session that the changed row belongs to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Put(session, ..) | Self::Remove(session) => *session,
        }
    }
}
