//! A revocation: a token, a session or a user that no gateway accepts any more.

use wire::{TenantId, Timestamp, UserId};

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationSubject {
    /// The token with this `jti`.
    Token(String),
    /// The session with this id, and tokens with this `sid`.
    Session(String),
    /// All tokens of a user that were issued before the revocation.
    User(TenantId, UserId),
}

/// One entry of the log of revocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub subject: RevocationSubject,
    /// Time of the revocation. `None` means that an earlier one no longer counts.
    pub at: Option<Timestamp>,
    /// Time until which the entry counts. After that, no token that it concerns is valid.
    pub until: Timestamp,
}
