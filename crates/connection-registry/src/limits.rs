//! How many connections a user or a tenant may have over the whole fleet, and what becomes of one too many.

use wire::{Notice, SessionId, TenantId, Timestamp, UserId};

use crate::directory::RegistrationNumber;
use crate::restores::{RestoreRequest, RestoreResult};

/// Limits that only the store can keep, because connections are spread over instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of one user; 0 for any number. The owner's default is 10.
    pub per_user_max: u32,
    /// Of one tenant; 0 for any number.
    pub per_tenant_max: u32,
    /// What becomes of a user's connection beyond that. A tenant's is always refused.
    pub on_excess: OnExcess,
}

/// Who goes when a user has one connection too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExcess {
    /// The new one.
    Reject,
    /// The oldest.
    CloseOldest,
}

/// A session of this instance that the store wants closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClose {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub why: CloseReason,
}

/// What the store wants done here, on another one's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceCommand {
    /// Close the connection that this session has had since then, if that is known: its client may be back in another
    /// one.
    Session(SessionClose, Option<Timestamp>),
    /// Close all connections of a user on this instance.
    User(TenantId, UserId, CloseReason),
    /// Send a notice.
    Notice(NoticeTarget, Notice),
}

/// Whom a notice is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeTarget {
    /// One session.
    Session(SessionId),
    /// All connections of a user on this instance.
    User(TenantId, UserId),
}

/// An [`InstanceCommand`] once the directory has said which sessions it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    /// Close a session's connection with this number, and those before it.
    Close(SessionClose, RegistrationNumber),
    /// Send these sessions a notice.
    Notice(Vec<SessionId>, Notice),
    /// What became of a question for a session's record.
    Restored(RestoreRequest, RestoreResult),
}

/// Why a session is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Its user or tenant has as many connections as it may.
    TooMany,
    /// Its owner has connected elsewhere: with the same session, or with one more than it may have.
    Replaced,
    /// An operator said so.
    Kicked,
}

/// What the store answers to a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRenewal {
    /// What its clock says; nothing if it has none of its own.
    pub at: Option<Timestamp>,
    /// Of this instance.
    pub listed: DirectoryReply,
}

/// What the store knows of an instance's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryReply {
    /// How many rows this instance has there.
    pub rows: usize,
    /// What is to be done here.
    pub commands: Vec<InstanceCommand>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { per_user_max: 10, per_tenant_max: 0, on_excess: OnExcess::Reject }
    }
}

impl OnExcess {
    /// As the store's function takes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::CloseOldest => "close_oldest",
        }
    }
}

impl CloseReason {
    /// Reads what the store's functions write.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "limit" => Some(Self::TooMany),
            "replaced" => Some(Self::Replaced),
            "kicked" => Some(Self::Kicked),
            _ => None,
        }
    }
}
