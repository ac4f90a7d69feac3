//! The store of a gateway without Redis. Its records end with the process, and its limits are for all tenants together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::{Position, Scope, TenantId, Timestamp, UserId};

use crate::dead_letters::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::error::StoreError;
use crate::receipts::ScopeReceipts;
use crate::store::{Bounds, Store};

/// Records in memory. Clones share the same records.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    bounds: Bounds,
    stored: Arc<Mutex<StoredRecords>>,
}

#[derive(Debug, Default)]
struct StoredRecords {
    /// The dead letters of all tenants, oldest first.
    dead_letters: VecDeque<StoredDeadLetter>,
    /// Tenant and key of each dead letter that was ever stored, within the limits; oldest first.
    seen: VecDeque<(Timestamp, TenantId, Box<str>)>,
    dedup_keys: HashSet<(TenantId, Box<str>)>,
    last: Option<DeadLetterId>,
    /// The last acknowledged position, and the time of its last change.
    receipts: HashMap<(Scope, UserId), (Position, Timestamp)>,
}

/// Most receipts of all scopes together. Receipts of further users are not stored.
const RECEIPTS_MAX: usize = 100_000;
/// Most deduplication keys: as many as Redis remembers for one tenant.
const SEEN_MAX: usize = 10_000;

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, stored: Arc::default() }
    }

    fn stored(&self) -> MutexGuard<'_, StoredRecords> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredRecords {
    /// Drops dead letters and keys that have expired or exceed the limits.
    fn trim(&mut self, bounds: Bounds, now: Timestamp) {
        let ttl_ms = u64::try_from(bounds.ttl.as_millis()).unwrap_or(u64::MAX);
        let expired = |time: Timestamp| time.0 < now.0.saturating_sub(ttl_ms);
        let entries_max = usize::try_from(bounds.entries_max).unwrap_or(usize::MAX);
        while self.dead_letters.len() > entries_max
            || self.dead_letters.front().is_some_and(|dead_letter| expired(dead_letter.id.time))
        {
            self.dead_letters.pop_front();
        }
        while self.seen.len() > SEEN_MAX || self.seen.front().is_some_and(|(time, ..)| expired(*time)) {
            if let Some((_, tenant, dedup_key)) = self.seen.pop_front() {
                self.dedup_keys.remove(&(tenant, dedup_key));
            }
        }
    }

    /// An id above all earlier ones, even if the clock goes back.
    fn next_id(&mut self, now: Timestamp) -> DeadLetterId {
        let id = match self.last {
            Some(last) if last.time >= now => DeadLetterId { time: last.time, number: last.number + 1 },
            _ => DeadLetterId { time: now, number: 0 },
        };
        self.last = Some(id);
        id
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

// === impl Store ===

impl Store for MemoryStore {
    async fn keep(&self, dead_letter: &DeadLetter) -> Result<bool, StoreError> {
        let (mut stored, now) = (self.stored(), now());
        stored.trim(self.bounds, now);
        let tenant = dead_letter.tenant();
        if !stored.dedup_keys.insert((tenant.clone(), dead_letter.dedup_key.clone())) {
            return Ok(false);
        }
        stored.seen.push_back((now, tenant, dead_letter.dedup_key.clone()));
        let id = stored.next_id(now);
        stored.dead_letters.push_back(dead_letter.keep(id));
        stored.trim(self.bounds, now);
        Ok(true)
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        before: Option<DeadLetterId>,
        most: usize,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let stored = self.stored();
        let wanted = |dead_letter: &&StoredDeadLetter| {
            dead_letter.tenant == *tenant && before.is_none_or(|before| dead_letter.id < before)
        };
        Ok(stored.dead_letters.iter().rev().filter(wanted).take(most).cloned().collect())
    }

    async fn dead_letter(&self, tenant: &TenantId, id: DeadLetterId) -> Result<Option<StoredDeadLetter>, StoreError> {
        Ok(self
            .stored()
            .dead_letters
            .iter()
            .find(|dead_letter| dead_letter.tenant == *tenant && dead_letter.id == id)
            .cloned())
    }

    async fn remove(&self, tenant: &TenantId, ids: &[DeadLetterId]) -> Result<usize, StoreError> {
        let mut stored = self.stored();
        let before = stored.dead_letters.len();
        stored.dead_letters.retain(|dead_letter| dead_letter.tenant != *tenant || !ids.contains(&dead_letter.id));
        Ok(before - stored.dead_letters.len())
    }

    async fn write_receipts(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Result<u64, StoreError> {
        let (mut stored, now, mut moved) = (self.stored(), now(), 0);
        for (scope, users) in batch {
            for (user, position) in users {
                let has_room = stored.receipts.len() < RECEIPTS_MAX;
                let key = (scope.clone(), user.clone());
                match stored.receipts.get_mut(&key) {
                    Some((held, _)) if *held >= *position => continue,
                    Some(held) => *held = (*position, now),
                    None if has_room => drop(stored.receipts.insert(key, (*position, now))),
                    None => continue,
                }
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// The newest position of a scope is not known here: only the broker knows it.
    async fn scope_receipts(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<ScopeReceipts, StoreError> {
        let stored = self.stored();
        let wanted = |(of, user): &(Scope, UserId)| of == scope && (users.is_empty() || users.contains(user));
        let found = stored.receipts.iter().filter(|(key, _)| wanted(key));
        let mut users: Vec<_> = found.map(|((_, user), (position, at))| (user.clone(), *position, *at)).collect();
        users.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
        users.truncate(most);
        Ok(ScopeReceipts { top: None, earlier: Vec::new(), users })
    }
}
