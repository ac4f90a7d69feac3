//! The store's side of the directory: batches of changes, and rewrites of all rows.

use std::collections::HashSet;

use wire::SessionId;

use super::Directory;
use super::unsynced_changes::UnsyncedChanges;
use crate::clock_offset::ClockOffset;
use crate::connection_row::RowChange;

impl Directory {
    /// Marks all rows to be written again, because the store's rows are unknown.
    pub(crate) fn rewrite(&self) {
        self.note_all(&mut self.unsynced());
    }

    /// Whether the store's rows must be deleted before the next batch. Returns true once for each rewrite.
    pub(crate) fn take_rewrite(&self) -> bool {
        std::mem::take(&mut self.unsynced().rewrite)
    }

    /// Takes up to `max` changes for a store without a clock of its own, removals first. Returns none when the store
    /// has everything.
    pub fn take_undated(&self, max: usize) -> Vec<RowChange> {
        self.take(max, None)
    }

    /// Takes up to `max` changes for the store, removals first. Times of arrival are by the store's clock, if it has
    /// one of its own. Returns none when the store has everything.
    pub(crate) fn take(&self, max: usize, clock_offset: Option<ClockOffset>) -> Vec<RowChange> {
        let mut unsynced = self.unsynced();
        let gone: Vec<SessionId> = unsynced.gone.iter().take(max).copied().collect();
        let mut batch = Vec::with_capacity(max.min(gone.len() + unsynced.changed.len()));
        for session in gone {
            unsynced.gone.remove(&session);
            batch.push(RowChange::Remove(session));
        }
        while batch.len() < max
            && let Some((_, session)) = unsynced.changed.pop_first()
        {
            let mut entry = self.rows.get_mut(&session).expect("`changed` holds listed sessions only, under one lock");
            let arrival = entry.arrival;
            // A row that is written a second time keeps its time of arrival.
            if let Some(clock_offset) = clock_offset.filter(|_| !entry.has_store_time) {
                entry.row.connected_at = clock_offset.earliest(arrival);
            }
            (entry.announced, entry.has_store_time) = (true, true);
            let row = entry.row.clone();
            let latest = clock_offset
                .map_or(row.connected_at, |clock_offset| clock_offset.latest(arrival).max(row.connected_at));
            batch.push(RowChange::Put(session, row, latest));
        }
        batch
    }

    /// Notes changes again when it is unknown whether the store has them.
    pub fn put_back(&self, batch: Vec<RowChange>) {
        let mut unsynced = self.unsynced();
        for change in batch {
            let session = change.session();
            match self.rows.get_mut(&session) {
                Some(mut entry) => {
                    // Also after a removal: the store may not have carried it out.
                    entry.announced = true;
                    unsynced.changed.insert(entry.number, session);
                }
                None => drop(unsynced.gone.insert(session)),
            }
        }
    }

    /// Notes all rows as changed and all removals as done.
    pub(super) fn note_all(&self, unsynced: &mut UnsyncedChanges) {
        unsynced.gone = HashSet::new();
        unsynced.changed = self.rows.iter().map(|entry| (entry.number, *entry.key())).collect();
        for mut entry in self.rows.iter_mut() {
            (entry.announced, entry.has_store_time) = (false, false);
        }
        unsynced.rewrite = true;
    }
}
