//! The closing of one session: which session, and the reason.

use wire::SessionId;

/// A session of this instance that the store wants closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClose {
    /// Session whose connection is closed.
    pub session: SessionId,
    /// Reason that the client is given.
    pub why: CloseReason,
}

/// Reason to close a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Its user or its tenant has reached the limit of connections.
    TooMany,
    /// Its user has connected elsewhere: with the same session, or with one connection above the limit.
    Replaced,
    /// An operator has closed it.
    Kicked,
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
