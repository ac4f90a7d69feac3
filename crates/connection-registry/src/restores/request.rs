//! A connection's request for the record of its session, and the answer.

use std::time::Instant;

use wire::{SessionId, TenantId, Timestamp, UserId};

use crate::registration::RegistrationNumber;
use crate::session_record::SessionRecord;

/// A connection that asks for the record of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Session whose record is wanted.
    pub session: SessionId,
    /// Tenant of the user.
    pub tenant: TenantId,
    /// User that asks. A record is given only to the user it belongs to.
    pub user: UserId,
    /// Time of arrival of the connection. Here it is by this instance's clock, in the store by the store's.
    pub since: Timestamp,
    /// The same time by the monotonic clock.
    pub arrival: Instant,
    /// Number of the connection in the directory.
    pub number: RegistrationNumber,
    /// Index of the shard of this instance that holds the connection.
    pub shard: u16,
    /// True if an older connection of this session on this instance is being closed: it will leave a record.
    pub awaited: bool,
}

/// Answer to a [`RestoreRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreResult {
    /// The record. No other connection gets it.
    Found(SessionRecord),
    /// There is no record, or it belongs to another user.
    Nothing,
    /// A newer connection continues the session.
    Replaced,
}
