//! Changes of the directory that the store does not have yet.

use std::collections::{BTreeMap, HashMap, HashSet};

use wire::SessionId;

use super::entry::DirectoryEntry;
use crate::registration::{Registration, RegistrationNumber};

/// Most removals that are remembered one by one while the store cannot be reached. Each takes 16 bytes and the set's
/// overhead.
pub(super) const GONE_SESSIONS_MAX: usize = 65_536;

/// Changes that the store does not have yet.
#[derive(Debug, Default)]
pub(super) struct UnsyncedChanges {
    /// Number of the newest registration.
    newest: Option<RegistrationNumber>,
    /// Listed sessions to be written, in the order of their arrival: of two sessions the store counts the later one as
    /// the one too many.
    pub(super) changed: BTreeMap<RegistrationNumber, SessionId>,
    /// Sessions that are not listed here and that the store may list.
    pub(super) gone: HashSet<SessionId>,
    /// The newest connections of their sessions that are not listed yet, because they wait for their records. Older
    /// connections of the same sessions may be listed.
    pub(super) waiting: HashMap<SessionId, DirectoryEntry>,
    /// The store's rows are unknown: all of them are to be deleted, and written again.
    pub(super) rewrite: bool,
}

impl UnsyncedChanges {
    /// Number for a new registration.
    pub(super) fn next_number(&mut self) -> RegistrationNumber {
        *self.newest.insert(self.newest.map_or(RegistrationNumber::FIRST, RegistrationNumber::next))
    }

    /// Takes out the entry of this registration, if it waits.
    pub(super) fn take_waiting(&mut self, registration: &Registration) -> Option<DirectoryEntry> {
        let session = registration.session();
        let is_own = self.waiting.get(&session).is_some_and(|entry| entry.number == registration.number());
        is_own.then(|| self.waiting.remove(&session)).flatten()
    }

    /// Releases memory that is not used any more.
    pub(super) fn shrink(&mut self) {
        let (gone, waiting) = (self.gone.len(), self.waiting.len());
        self.gone.shrink_to(2 * gone);
        self.waiting.shrink_to(2 * waiting);
    }
}
