//! Presence changes in the order in which the store publishes them, and snapshots that name a place in that order.

use std::fmt;

use wire::{Timestamp, UserId};

use crate::member::{MemberInfo, MemberList};

/// The members of several scopes at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// Batches after this place are newer than the snapshot.
    pub cursor: PresenceCursor,
    /// One list for each scope, in the order of the request.
    pub scopes: Vec<MemberList>,
}

/// A place in the order of presence batches. Another store, or one that lost its data, starts a new order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresenceCursor {
    ms: u64,
    number: u64,
}

impl PresenceCursor {
    /// The following place, for a store of one process.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { ms: self.ms, number: self.number + 1 }
    }

    /// Reads what the store wrote. The text is empty before the first batch.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (ms, number) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for PresenceCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// Presence changes that the store made in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceBatch {
    /// Place of this batch.
    pub cursor: PresenceCursor,
    /// Place of the previous batch. A reader that has received another one before this one has missed some.
    pub before: PresenceCursor,
    /// The changes, in order.
    pub changes: Vec<PresenceEvent>,
}

/// A member has joined a scope, or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEvent {
    /// Name of the scope, as `TENANT/FAMILY:ID`.
    pub scope: Box<str>,
    /// User that joined or left.
    pub user: UserId,
    /// Time of the change by the store's clock.
    pub at: Timestamp,
    /// Number of members after the change.
    pub count: usize,
    /// Whether the user joined or left.
    pub transition: PresenceTransition,
}

/// The change of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceTransition {
    /// The member has joined. Carries what its token says about it.
    Joined(MemberInfo),
    /// The member has left.
    Left,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_is_ordered_by_number() {
        assert_eq!(PresenceCursor::parse("1700000000000-12").unwrap().to_string(), "1700000000000-12");
        assert!(PresenceCursor::parse("7-12") > PresenceCursor::parse("7-9"));
        assert!(PresenceCursor::parse("10-0") > PresenceCursor::parse("9-9"));
        assert_eq!(PresenceCursor::parse(""), Some(PresenceCursor::default()));
        assert_eq!(
            (PresenceCursor::parse("7"), PresenceCursor::parse("7-x"), PresenceCursor::parse("-")),
            (None, None, None)
        );
    }
}
