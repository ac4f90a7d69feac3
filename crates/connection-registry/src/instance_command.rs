//! A command to one instance, as the store delivers it.

use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

use crate::session_close::{CloseReason, SessionClose};

/// A command of another instance or of an operator, to be carried out here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceCommand {
    /// Close one session's connection. The timestamp, if it is known, is the connection's time of arrival: the command
    /// does not apply to a later connection of the same session.
    Session(SessionClose, Option<Timestamp>),
    /// Close all connections of a user on this instance.
    User(TenantId, UserId, CloseReason),
    /// Send a notice to sessions of this instance.
    Notice(NoticeTarget, Notice),
}

/// Receivers of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeTarget {
    /// The connection of one session.
    Session(SessionId),
    /// All connections of a user on this instance.
    User(TenantId, UserId),
}
