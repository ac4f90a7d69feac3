//! The directory of one instance: its connections, and the changes that the store does not have yet.
//!
//! ```text
//!   shards ── connect, disconnect ──▶ Directory ── take(batch) ──▶ heartbeat ══▶ rows in Redis
//!   any thread ◀── get ────────────── (rows)       (unsynced changes)
//! ```
//!
//! Changes are noted by session and not queued one by one. A session that arrives and ends between two heartbeats costs
//! the store nothing, and an idle instance writes nothing. The notes are bounded: by the sessions that are connected
//! now, and by [`GONE_SESSIONS_MAX`] ended sessions that the store may still list. Above that bound the instance writes
//! all its rows again.

mod command_resolution;
mod entry;
mod excess;
mod sync;
mod unsynced_changes;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::Notify;
use wire::{SessionId, TenantId, Timestamp, UserId};

use self::entry::DirectoryEntry;
use self::unsynced_changes::{GONE_SESSIONS_MAX, UnsyncedChanges};
use crate::connection_row::ConnectionRow;
use crate::registration::{Registration, RegistrationNumber};
use crate::restores::Restores;

/// The directory of one instance.
#[derive(Debug, Default)]
pub struct Directory {
    /// Any thread reads the rows. They change only under the lock of `unsynced`, so that the two agree.
    rows: DashMap<SessionId, DirectoryEntry>,
    unsynced: Mutex<UnsyncedChanges>,
    /// Notified when a session has arrived.
    changes: Notify,
    restores: Restores,
}

impl Directory {
    /// Adds a connection of a session. It replaces the row that the session already has.
    pub fn connect(&self, session: SessionId, row: ConnectionRow) -> Registration {
        self.take_over(session, row, Instant::now()).0
    }

    /// As [`Self::connect`]. Also returns the shards of older connections of the same session, which the caller closes.
    pub fn take_over(&self, session: SessionId, row: ConnectionRow, arrival: Instant) -> (Registration, Vec<u16>) {
        let mut unsynced = self.unsynced();
        let (entry, older) = self.register(&mut unsynced, session, row, arrival);
        let registration = Registration::new(session, entry.number);
        self.insert(&mut unsynced, session, entry);
        (registration, older)
    }

    /// Adds a connection of a session that [`Self::list`] lists later. As for [`Self::take_over`], the caller closes
    /// the older connections.
    pub fn wait(&self, session: SessionId, row: ConnectionRow, arrival: Instant) -> (Registration, Vec<u16>) {
        let mut unsynced = self.unsynced();
        let (entry, older) = self.register(&mut unsynced, session, row, arrival);
        let registration = Registration::new(session, entry.number);
        unsynced.waiting.insert(session, entry);
        (registration, older)
    }

    /// Lists a connection that has waited. Returns false if a newer connection of its session has arrived.
    #[must_use = "a connection that is not listed is to be closed"]
    pub fn list(&self, registration: &Registration) -> bool {
        let session = registration.session();
        let mut unsynced = self.unsynced();
        match unsynced.take_waiting(registration) {
            Some(entry) => self.insert(&mut unsynced, session, entry),
            None => return self.rows.get(&session).is_some_and(|entry| entry.number == registration.number()),
        }
        true
    }

    /// Gives a new connection its number. Returns its entry, and the shards of older connections of its session.
    fn register(
        &self,
        unsynced: &mut UnsyncedChanges,
        session: SessionId,
        row: ConnectionRow,
        arrival: Instant,
    ) -> (DirectoryEntry, Vec<u16>) {
        let number = unsynced.next_number();
        let listed = self.rows.get(&session).map(|entry| entry.row.shard);
        let waits = unsynced.waiting.remove(&session).map(|entry| entry.row.shard);
        let older = listed.into_iter().chain(waits.filter(|shard| listed != Some(*shard))).collect();
        (DirectoryEntry { row, arrival, number, announced: false, has_store_time: false }, older)
    }

    fn insert(&self, unsynced: &mut UnsyncedChanges, session: SessionId, mut entry: DirectoryEntry) {
        let before = self.rows.get(&session).map(|entry| (entry.number, entry.announced));
        entry.announced = unsynced.gone.remove(&session) || before.is_some_and(|(_, announced)| announced);
        if let Some((number, _)) = before {
            unsynced.changed.remove(&number);
        }
        unsynced.changed.insert(entry.number, session);
        self.rows.insert(session, entry);
        self.changes.notify_one();
    }

    /// Time of arrival of the connection with this registration. Returns nothing if a newer connection of its session
    /// has arrived.
    #[must_use]
    pub fn since(&self, registration: &Registration) -> Option<(Timestamp, Instant)> {
        self.arrival(registration.session(), registration.number())
    }

    /// Whether the connection with this number is the newest one of its session here.
    pub fn is_newest(&self, session: SessionId, number: RegistrationNumber) -> bool {
        self.arrival(session, number).is_some()
    }

    fn arrival(&self, session: SessionId, number: RegistrationNumber) -> Option<(Timestamp, Instant)> {
        let unsynced = self.unsynced();
        let arrival =
            |entry: &DirectoryEntry| (entry.number == number).then_some((entry.row.connected_at, entry.arrival));
        match unsynced.waiting.get(&session) {
            Some(entry) => arrival(entry),
            None => self.rows.get(&session).and_then(|entry| arrival(&entry)),
        }
    }

    /// Removes the connection with this registration, which has ended.
    pub fn disconnect(&self, registration: Registration) {
        let mut unsynced = self.unsynced();
        if unsynced.take_waiting(&registration).is_some() {
            return; // A row of this session belongs to an older connection.
        }
        let owned = self.rows.remove_if(&registration.session(), |_, entry| entry.number == registration.number());
        let Some((session, entry)) = owned else { return };
        unsynced.changed.remove(&entry.number);
        if entry.announced && !unsynced.rewrite {
            unsynced.gone.insert(session);
            if unsynced.gone.len() > GONE_SESSIONS_MAX {
                self.note_all(&mut unsynced);
            }
        }
    }

    /// The row of a session, if it is connected here.
    #[must_use]
    pub fn get(&self, session: SessionId) -> Option<ConnectionRow> {
        self.registration(session).map(|(_, row)| row)
    }

    /// The row of a session, and the number of the connection that owns it.
    #[must_use]
    pub fn registration(&self, session: SessionId) -> Option<(RegistrationNumber, ConnectionRow)> {
        self.rows.get(&session).map(|entry| (entry.number, entry.row.clone()))
    }

    /// A user's sessions here. Looks at every row.
    #[must_use]
    pub fn sessions_of(&self, tenant: &TenantId, user: &UserId) -> Vec<SessionId> {
        let owned = self.rows.iter().filter(|entry| (&entry.row.tenant, &entry.row.user) == (tenant, user));
        owned.map(|entry| *entry.key()).collect()
    }

    /// Session records on their way to the store and from it.
    #[must_use]
    pub fn restores(&self) -> &Restores {
        &self.restores
    }

    /// Number of sessions that are connected here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no session is connected here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Shrinks the tables after many connections have closed: when three quarters of the room are unused.
    pub fn shrink(&self) {
        if self.rows.capacity() / 4 > self.rows.len() {
            self.rows.shrink_to_fit();
        }
        self.unsynced().shrink();
    }

    /// Waits until a session has arrived since the last call.
    pub(crate) async fn wait_for_new(&self) {
        self.changes.notified().await;
    }

    fn unsynced(&self) -> MutexGuard<'_, UnsyncedChanges> {
        // A panic elsewhere under the lock leaves one note too many or too few. The next rewrite repairs that.
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
