//! The members of scopes on one instance, and the changes that the store does not have yet.
//!
//! ```text
//!   shards ── enter, exit ──▶ Presence ── take(batch) ──▶ heartbeat ══▶ members in Redis
//! ```
//!
//! A user with several connections of a scope is one member: only the first connection and the end of the last one are
//! written to the store. Changes are noted by member, so a member that enters and leaves between two batches costs
//! nothing. The notes are bounded: by the members here, and by [`GONE_MEMBERS_MAX`](member_table::GONE_MEMBERS_MAX)
//! departed members that the store may still list. Above that bound the instance writes all its members again.

mod member_table;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::{Scope, Timestamp, UserId};

use self::member_table::MemberTable;
use crate::member::{MemberChange, MemberInfo, MemberList};

/// The members that one instance holds.
#[derive(Debug, Default)]
pub struct Presence {
    table: Mutex<MemberTable>,
    /// Notified when a member has entered or left.
    changes: Notify,
}

impl Presence {
    /// A connection of this user has entered a scope.
    pub fn enter(&self, scope: &Scope, user: &UserId, info: &MemberInfo, now: Timestamp) {
        if self.table().enter(scope, user, info, now) {
            self.changes.notify_one();
        }
    }

    /// A connection of this user that had entered a scope has left it, or has ended.
    pub fn exit(&self, scope: &Scope, user: &UserId) {
        if self.table().exit(scope, user) {
            self.changes.notify_one();
        }
    }

    /// Number of members that this instance holds, in all scopes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether this instance holds no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of a scope that are connected to this instance: all of them counted, at most `most` of them listed.
    #[must_use]
    pub fn here(&self, scope: &Scope, most: usize) -> MemberList {
        self.table().list(scope, most)
    }

    /// Waits until a member has entered or left since the last call.
    pub(crate) async fn wait_for_changes(&self) {
        self.changes.notified().await;
    }

    /// Marks all members to be written again, because the store's list is unknown.
    pub(crate) fn rewrite(&self) {
        self.table().rewrite();
    }

    /// Whether the store must start a rewrite before the next batch. Returns true once for each rewrite.
    pub(crate) fn take_rewrite(&self) -> bool {
        self.table().take_rewrite()
    }

    /// Takes up to `max` changes for the store. Returns none when the store has everything.
    pub(crate) fn take(&self, max: usize) -> Vec<MemberChange> {
        self.table().take(max)
    }

    /// Notes changes again when it is unknown whether the store has them.
    pub(crate) fn put_back(&self, batch: Vec<MemberChange>) {
        self.table().put_back(batch);
    }

    fn table(&self) -> MutexGuard<'_, MemberTable> {
        // A panic elsewhere under the lock leaves one note too many or too few. The next rewrite repairs that.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
