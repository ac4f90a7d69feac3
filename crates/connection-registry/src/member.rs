//! A member of a scope: a user, however many connections it has there.

use std::fmt;
use std::sync::Arc;

use wire::{InstanceId, Scope, Timestamp, UserId};

/// What a member's token says about it: JSON, which is passed on as it is. A word where there is none, because every
/// connection has one.
pub type MemberInfo = Option<Arc<String>>;

/// A change of what this instance holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// The user's first connection here has come to the scope.
    Enter(Scope, UserId, MemberInfo),
    /// Its last one has gone.
    Exit(Scope, UserId),
}

/// One member, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Since when, by the store's clock.
    pub since: Timestamp,
    /// What its token says about it.
    pub info: MemberInfo,
    /// To which instances it is connected; to none while its grace runs.
    pub instances: Vec<InstanceId>,
}

/// The members of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberList {
    /// How many there are.
    pub count: usize,
    /// Some of them, or all.
    pub members: Vec<Member>,
}

/// The members of some scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresenceSnapshot {
    /// What is told behind this has changed since.
    pub cursor: PresenceCursor,
    /// As they were asked for.
    pub scopes: Vec<MemberList>,
}

/// A place in the order of what the store tells. Another store, or one that lost its data, orders anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresenceCursor {
    ms: u64,
    number: u64,
}

impl PresenceCursor {
    /// The one behind it, where one process counts.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { ms: self.ms, number: self.number + 1 }
    }

    /// Reads what the store wrote; before the first one it is empty.
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

/// What one step of the store changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceBatch {
    /// Its place.
    pub cursor: PresenceCursor,
    /// The place of the one before it: if that is not the one that came before, some are missing.
    pub before: PresenceCursor,
    /// In order.
    pub changes: Vec<PresenceEvent>,
}

/// Somebody has joined a scope, or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceEvent {
    /// `TENANT/FAMILY:ID`.
    pub scope: Box<str>,
    /// Who.
    pub user: UserId,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// How many members there are now.
    pub count: usize,
    /// What.
    pub transition: PresenceTransition,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceTransition {
    /// It has joined.
    Joined(MemberInfo),
    /// It has left.
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
