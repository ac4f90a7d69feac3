//! Who is connected here: the instance's own truth, and what of it the store has yet to learn.
//!
//! ```text
//!   shards ── connect, disconnect ──▶ Directory ── take(batch) ──▶ heartbeat ══▶ rows in Redis
//!   anybody ◀── get ───────────────── (rows)       (noted changes)
//! ```
//!
//! Changes are noted by session, not queued one by one: a session that comes and goes between two heartbeats costs the
//! store nothing, and an idle instance writes nothing. The notes are bounded by what exists: sessions connected now,
//! and at most [`GONE_SESSIONS_MAX`] that the store may still list; beyond that the whole instance is written anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::Notify;
use wire::{SessionId, TenantId, Timestamp, UserId};

use crate::clock_offset::ClockOffset;
use crate::limits::{
    CloseReason, ConnectionLimits, InstanceCommand, NoticeTarget, OnExcess, SessionClose, SessionCommand,
};
use crate::restores::Restores;

/// So many removals are remembered one by one while the store cannot be told. 16 bytes each, and the set's overhead.
const GONE_SESSIONS_MAX: usize = 65_536;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Of which customer.
    pub tenant: TenantId,
    /// Who.
    pub user: UserId,
    /// On which shard of this instance.
    pub shard: u16,
    /// Since when, by this instance's clock; in the store, by the store's, and at the earliest.
    pub connected_at: Timestamp,
}

/// A change of one row in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// The session is here, by the store's clock since this moment at the latest.
    Put(SessionId, ConnectionRow, Timestamp),
    /// It is not, or no more.
    Remove(SessionId),
}

impl RowChange {
    /// Of which session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Put(session, ..) | Self::Remove(session) => *session,
        }
    }
}

/// The right to remove one row: what [`Directory::connect`] gives and [`Directory::disconnect`] takes back.
///
/// A client that reconnects before its old socket is found dead has the same session twice. The newer one owns the
/// row; the older one's end must not remove it. Which is the newer one is decided when they come: one that waits for its
/// session's record has its number from then on, and is listed later, or never if another one has come meanwhile.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a seat that is not given back leaves a row behind"]
pub struct Registration {
    session: SessionId,
    serial: NonZeroU64,
}

// One per connection, and a connection that is not open yet has room for one.
const _: () = assert!(size_of::<Option<Registration>>() <= 24);

/// What is known about one session.
#[derive(Debug)]
struct DirectoryEntry {
    row: ConnectionRow,
    /// When it came.
    arrival: Instant,
    /// Of the registration that owns the row.
    serial: NonZeroU64,
    /// Whether the store may list it, so that its end must be told.
    announced: bool,
    /// The row has the date that the store is told, which names connections by it.
    has_store_time: bool,
}

/// A connection that is listed here, among all that its session may have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistrationNumber(NonZeroU64);

/// What the store has yet to learn.
#[derive(Debug, Default)]
struct UnsyncedChanges {
    /// Number of the newest registration.
    serial: Option<NonZeroU64>,
    /// Sessions of `rows` that came, by their registrations' serials: told in the order in which they came, so that of two the
    /// later one is the one too many.
    changed: BTreeMap<NonZeroU64, SessionId>,
    /// Sessions not in `rows` that the store may list.
    gone: HashSet<SessionId>,
    /// The newest connections of their sessions, not listed yet: they wait for their records. Others may be in `rows`.
    waiting: HashMap<SessionId, DirectoryEntry>,
    /// The store's rows are unknown: all are to be deleted, and written again.
    rewrite: bool,
}

/// The directory of one instance.
#[derive(Debug, Default)]
pub struct Directory {
    /// Read by anybody, changed only under the lock of `notes`: so the two agree.
    rows: DashMap<SessionId, DirectoryEntry>,
    notes: Mutex<UnsyncedChanges>,
    /// Woken when a session has come.
    changes: Notify,
    restores: Restores,
}

impl Registration {
    /// Whose row it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Later ones have higher numbers.
    #[must_use]
    pub fn number(&self) -> RegistrationNumber {
        RegistrationNumber(self.serial)
    }
}

impl Directory {
    /// A session is connected here. A row it already had is replaced.
    pub fn connect(&self, session: SessionId, row: ConnectionRow) -> Registration {
        self.take_over(session, row, Instant::now()).0
    }

    /// As [`Self::connect`], with the shards of older connections of the same session, which are to be closed.
    pub fn take_over(&self, session: SessionId, row: ConnectionRow, arrival: Instant) -> (Registration, Vec<u16>) {
        let mut notes = self.notes();
        let (registration, older, entry) = self.seat_newest(&mut notes, session, row, arrival);
        self.insert(&mut notes, session, entry);
        (registration, older)
    }

    /// A session is connected here, and listed later. As for [`Self::take_over`], older connections are to be closed.
    pub fn wait(&self, session: SessionId, row: ConnectionRow, arrival: Instant) -> (Registration, Vec<u16>) {
        let mut notes = self.notes();
        let (registration, older, entry) = self.seat_newest(&mut notes, session, row, arrival);
        notes.waiting.insert(session, entry);
        (registration, older)
    }

    /// The connection waits no more: it is listed. False if a newer one of its session has come.
    #[must_use = "a connection that is not listed is to be closed"]
    pub fn list(&self, registration: &Registration) -> bool {
        let mut notes = self.notes();
        match take_if(&mut notes.waiting, registration) {
            Some(entry) => self.insert(&mut notes, registration.session, entry),
            None => {
                return self.rows.get(&registration.session).is_some_and(|entry| entry.serial == registration.serial);
            }
        }
        true
    }

    fn seat_newest(
        &self,
        notes: &mut UnsyncedChanges,
        session: SessionId,
        row: ConnectionRow,
        arrival: Instant,
    ) -> (Registration, Vec<u16>, DirectoryEntry) {
        let serial = notes.serial.map_or(NonZeroU64::MIN, |last| last.saturating_add(1));
        notes.serial = Some(serial);
        let listed = self.rows.get(&session).map(|entry| entry.row.shard);
        let waits = notes.waiting.remove(&session).map(|entry| entry.row.shard);
        let older = listed.into_iter().chain(waits.filter(|shard| listed != Some(*shard))).collect();
        (
            Registration { session, serial },
            older,
            DirectoryEntry { row, arrival, serial, announced: false, has_store_time: false },
        )
    }

    fn insert(&self, notes: &mut UnsyncedChanges, session: SessionId, mut entry: DirectoryEntry) {
        let before = self.rows.get(&session).map(|entry| (entry.serial, entry.announced));
        entry.announced = notes.gone.remove(&session) || before.is_some_and(|(_, announced)| announced);
        if let Some((serial, _)) = before {
            notes.changed.remove(&serial);
        }
        notes.changed.insert(entry.serial, session);
        self.rows.insert(session, entry);
        self.changes.notify_one();
    }

    /// Since when the connection that got this registration is there. Nothing if a newer one of its session has come.
    #[must_use]
    pub fn since(&self, registration: &Registration) -> Option<(Timestamp, Instant)> {
        let notes = self.notes();
        let since = |entry: &DirectoryEntry| (entry.row.connected_at, entry.arrival);
        match notes.waiting.get(&registration.session) {
            Some(entry) => (entry.serial == registration.serial).then(|| since(entry)),
            None => self
                .rows
                .get(&registration.session)
                .filter(|entry| entry.serial == registration.serial)
                .map(|entry| since(&entry)),
        }
    }

    /// Whether the connection with this number is the newest of its session here.
    pub fn is_newest(&self, session: SessionId, number: RegistrationNumber) -> bool {
        self.since(&Registration { session, serial: number.0 }).is_some()
    }

    /// The connection that got this registration has ended.
    pub fn disconnect(&self, registration: Registration) {
        let mut notes = self.notes();
        if take_if(&mut notes.waiting, &registration).is_some() {
            return; // Of an older one there may be a row, which is its own.
        }
        let owned = self.rows.remove_if(&registration.session, |_, entry| entry.serial == registration.serial);
        let Some((session, entry)) = owned else { return };
        notes.changed.remove(&entry.serial);
        if entry.announced && !notes.rewrite {
            notes.gone.insert(session);
            if notes.gone.len() > GONE_SESSIONS_MAX {
                self.note_all(&mut notes);
            }
        }
    }

    /// The row of a session, if it is connected here.
    #[must_use]
    pub fn get(&self, session: SessionId) -> Option<ConnectionRow> {
        self.registration(session).map(|(_, row)| row)
    }

    /// The connection that has the row of a session, with the row.
    #[must_use]
    pub fn registration(&self, session: SessionId) -> Option<(RegistrationNumber, ConnectionRow)> {
        self.rows.get(&session).map(|entry| (RegistrationNumber(entry.serial), entry.row.clone()))
    }

    /// As [`Self::registration`], with the time since when it is there as the store has been told.
    pub(crate) fn registered(&self, session: SessionId) -> Option<(RegistrationNumber, Option<Timestamp>)> {
        let has_store_time = |entry: &DirectoryEntry| entry.has_store_time.then_some(entry.row.connected_at);
        self.rows.get(&session).map(|entry| (RegistrationNumber(entry.serial), has_store_time(&entry)))
    }

    /// A user's sessions here. Looks at every row.
    #[must_use]
    pub fn sessions_of(&self, tenant: &TenantId, user: &UserId) -> Vec<SessionId> {
        let theirs = self.rows.iter().filter(|entry| (&entry.row.tenant, &entry.row.user) == (tenant, user));
        theirs.map(|entry| *entry.key()).collect()
    }

    /// What an order of the store means here.
    #[must_use]
    pub fn session_commands(&self, command: InstanceCommand) -> Vec<SessionCommand> {
        match command {
            InstanceCommand::Session(closing, since) => match self.registered(closing.session) {
                Some((number, at)) if since.is_none() || since == at => vec![SessionCommand::Close(closing, number)],
                _ => Vec::new(), // Its client has come back meanwhile.
            },
            InstanceCommand::User(tenant, user, why) => {
                let close = |session| {
                    let (number, _) = self.registered(session)?;
                    Some(SessionCommand::Close(SessionClose { session, why }, number))
                };
                self.sessions_of(&tenant, &user).into_iter().filter_map(close).collect()
            }
            InstanceCommand::Notice(NoticeTarget::Session(session), notice) => {
                vec![SessionCommand::Notice(vec![session], notice)]
            }
            InstanceCommand::Notice(NoticeTarget::User(tenant, user), notice) => {
                vec![SessionCommand::Notice(self.sessions_of(&tenant, &user), notice)]
            }
        }
    }

    /// Who is one too many, if nobody else in the fleet were counted: of a user's connections here the newest or the
    /// oldest, of a tenant's the newest. Looks at every row.
    pub(crate) fn excess(&self, limits: ConnectionLimits) -> Vec<(SessionClose, RegistrationNumber)> {
        if limits.per_user_max == 0 && limits.per_tenant_max == 0 {
            return Vec::new();
        }
        let mut rows: Vec<_> = self.rows.iter().map(|entry| (entry.serial, *entry.key(), entry.row.clone())).collect();
        rows.sort_unstable_by_key(|(serial, ..)| *serial);
        let mut closing = HashMap::new();
        let mut users: HashMap<_, Vec<(NonZeroU64, SessionId)>> = HashMap::new();
        let mut tenants: HashMap<_, u32> = HashMap::new();
        for (number, session, row) in &rows {
            let (theirs, registration) = (users.entry((&row.tenant, &row.user)).or_default(), (*number, *session));
            if limits.per_user_max > 0 && theirs.len() >= limits.per_user_max as usize {
                match limits.on_excess {
                    OnExcess::Reject => {
                        closing.insert(registration, CloseReason::TooMany);
                        continue;
                    }
                    OnExcess::CloseOldest => _ = closing.insert(theirs.remove(0), CloseReason::Replaced),
                }
            }
            theirs.push(registration);
        }
        for (number, session, row) in &rows {
            let registration = (*number, *session);
            if limits.per_tenant_max == 0 || closing.contains_key(&registration) {
                continue;
            }
            let count = tenants.entry(&row.tenant).or_default();
            *count += 1;
            if *count > limits.per_tenant_max {
                closing.insert(registration, CloseReason::TooMany);
            }
        }
        let close = |((number, session), why)| (SessionClose { session, why }, RegistrationNumber(number));
        closing.into_iter().map(close).collect()
    }

    /// What sessions leave behind, and take up.
    #[must_use]
    pub fn restores(&self) -> &Restores {
        &self.restores
    }

    /// How many sessions are connected here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nobody is connected here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Gives back the room of those who have gone, if that is most of it.
    pub fn shrink(&self) {
        if self.rows.capacity() / 4 > self.rows.len() {
            self.rows.shrink_to_fit();
        }
        let mut notes = self.notes();
        let (gone, waiting) = (notes.gone.len(), notes.waiting.len());
        notes.gone.shrink_to(2 * gone);
        notes.waiting.shrink_to(2 * waiting);
    }

    /// Waits until a session has come since the last call.
    pub(crate) async fn wait_for_new(&self) {
        self.changes.notified().await;
    }

    /// What the store knows is void: everything is to be written again.
    pub(crate) fn rewrite(&self) {
        self.note_all(&mut self.notes());
    }

    /// Whether the store's rows must be deleted before the next batch. Says so once.
    pub(crate) fn take_rewrite(&self) -> bool {
        std::mem::take(&mut self.notes().rewrite)
    }

    /// Up to `max` changes for a store without a clock of its own, removals first. Empty when it knows everything.
    pub fn take_undated(&self, max: usize) -> Vec<RowChange> {
        self.take(max, None)
    }

    /// Up to `max` changes for the store, removals first, dated by its clock if it has one of its own. Empty when it knows
    /// everything.
    pub(crate) fn take(&self, max: usize, clock_offset: Option<ClockOffset>) -> Vec<RowChange> {
        let mut notes = self.notes();
        let gone: Vec<SessionId> = notes.gone.iter().take(max).copied().collect();
        let mut batch = Vec::with_capacity(max.min(gone.len() + notes.changed.len()));
        for session in gone {
            notes.gone.remove(&session);
            batch.push(RowChange::Remove(session));
        }
        while batch.len() < max
            && let Some((_, session)) = notes.changed.pop_first()
        {
            let mut entry = self.rows.get_mut(&session).expect("changed names rows only, under one lock");
            let arrival = entry.arrival;
            // Told again it has the same date.
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

    /// Notes the changes again whose fate in the store is unknown.
    pub fn put_back(&self, batch: Vec<RowChange>) {
        let mut notes = self.notes();
        for change in batch {
            let session = change.session();
            match self.rows.get_mut(&session) {
                Some(mut entry) => {
                    // Also by a removal that may not have come to pass.
                    entry.announced = true;
                    notes.changed.insert(entry.serial, session);
                }
                None => drop(notes.gone.insert(session)),
            }
        }
    }

    fn note_all(&self, notes: &mut UnsyncedChanges) {
        notes.gone = HashSet::new();
        notes.changed = self.rows.iter().map(|entry| (entry.serial, *entry.key())).collect();
        for mut entry in self.rows.iter_mut() {
            (entry.announced, entry.has_store_time) = (false, false);
        }
        notes.rewrite = true;
    }

    fn notes(&self) -> MutexGuard<'_, UnsyncedChanges> {
        // A panic elsewhere under the lock leaves a note too many or too few; the next rewrite heals that.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out the entry of this registration, if it waits.
fn take_if(waiting: &mut HashMap<SessionId, DirectoryEntry>, registration: &Registration) -> Option<DirectoryEntry> {
    let is_own = waiting.get(&registration.session).is_some_and(|entry| entry.serial == registration.serial);
    is_own.then(|| waiting.remove(&registration.session)).flatten()
}

#[cfg(test)]
mod tests;
