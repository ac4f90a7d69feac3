//! Entries of the registry that another program has written. Each is logged once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Most entries that are remembered. Further ones are logged again when these have been forgotten.
const REMEMBERED_MAX: usize = 64;

/// The entries that have been logged. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ForeignEntries(Arc<Mutex<HashSet<String>>>);

impl ForeignEntries {
    /// Logs an entry of the hash of peers that no instance has written.
    pub(super) fn peer(&self, id: &str, record: &str) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= REMEMBERED_MAX {
            logged.clear();
        }
        if logged.insert(format!("{id} {record}")) {
            tracing::warn!(peer = id, record, "malformed peer record ignored: another program has written it");
        }
    }
}
