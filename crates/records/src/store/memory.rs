//! The store of a gateway without Redis: it lives and dies with the process, and its bound is for all tenants together.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wire::{Position, Scope, TenantId, Timestamp, UserId};

use crate::error::StoreError;
use crate::letter::{KeptLetter, Letter, LetterId};
use crate::receipt::Standing;
use crate::store::{Bounds, Store};

/// Records in memory. Clones are the same records.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    bounds: Bounds,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Oldest first.
    letters: VecDeque<KeptLetter>,
    /// Tenant and mark of each letter there ever was, within the bounds; oldest first.
    seen: VecDeque<(Timestamp, TenantId, Box<str>)>,
    marks: HashSet<(TenantId, Box<str>)>,
    last: Option<LetterId>,
    /// How far each user has got, and when that last moved.
    receipts: HashMap<(Scope, UserId), (Position, Timestamp)>,
}

/// Of all scopes together; further users are not written down.
const RECEIPTS_MAX: usize = 100_000;
/// As many marks as Redis remembers of one tenant.
const SEEN_MAX: usize = 10_000;

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, shelf: Arc::default() }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Drops what is past its time or too much.
    fn trim(&mut self, bounds: Bounds, now: Timestamp) {
        let ttl_ms = u64::try_from(bounds.ttl.as_millis()).unwrap_or(u64::MAX);
        let expired = |time: Timestamp| time.0 < now.0.saturating_sub(ttl_ms);
        let entries_max = usize::try_from(bounds.entries_max).unwrap_or(usize::MAX);
        while self.letters.len() > entries_max || self.letters.front().is_some_and(|letter| expired(letter.id.time)) {
            self.letters.pop_front();
        }
        while self.seen.len() > SEEN_MAX || self.seen.front().is_some_and(|(time, ..)| expired(*time)) {
            if let Some((_, tenant, mark)) = self.seen.pop_front() {
                self.marks.remove(&(tenant, mark));
            }
        }
    }

    /// Above every id before it, whatever the clock does.
    fn next_id(&mut self, now: Timestamp) -> LetterId {
        let id = match self.last {
            Some(last) if last.time >= now => LetterId { time: last.time, number: last.number + 1 },
            _ => LetterId { time: now, number: 0 },
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
    async fn keep(&self, letter: &Letter) -> Result<bool, StoreError> {
        let (mut shelf, now) = (self.shelf(), now());
        shelf.trim(self.bounds, now);
        let tenant = letter.tenant();
        if !shelf.marks.insert((tenant.clone(), letter.mark.clone())) {
            return Ok(false);
        }
        shelf.seen.push_back((now, tenant, letter.mark.clone()));
        let id = shelf.next_id(now);
        shelf.letters.push_back(letter.keep(id));
        shelf.trim(self.bounds, now);
        Ok(true)
    }

    async fn letters(
        &self,
        tenant: &TenantId,
        before: Option<LetterId>,
        most: usize,
    ) -> Result<Vec<KeptLetter>, StoreError> {
        let shelf = self.shelf();
        let wanted = |letter: &&KeptLetter| letter.tenant == *tenant && before.is_none_or(|before| letter.id < before);
        Ok(shelf.letters.iter().rev().filter(wanted).take(most).cloned().collect())
    }

    async fn letter(&self, tenant: &TenantId, id: LetterId) -> Result<Option<KeptLetter>, StoreError> {
        Ok(self.shelf().letters.iter().find(|letter| letter.tenant == *tenant && letter.id == id).cloned())
    }

    async fn remove(&self, tenant: &TenantId, ids: &[LetterId]) -> Result<usize, StoreError> {
        let mut shelf = self.shelf();
        let before = shelf.letters.len();
        shelf.letters.retain(|letter| letter.tenant != *tenant || !ids.contains(&letter.id));
        Ok(before - shelf.letters.len())
    }

    async fn write_receipts(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Result<u64, StoreError> {
        let (mut shelf, now, mut moved) = (self.shelf(), now(), 0);
        for (scope, users) in batch {
            for (user, position) in users {
                let has_room = shelf.receipts.len() < RECEIPTS_MAX;
                let key = (scope.clone(), user.clone());
                match shelf.receipts.get_mut(&key) {
                    Some((held, _)) if *held >= *position => continue,
                    Some(held) => *held = (*position, now),
                    None if has_room => drop(shelf.receipts.insert(key, (*position, now))),
                    None => continue,
                }
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Where the scope stands, only its broker knows.
    async fn standing(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<Standing, StoreError> {
        let shelf = self.shelf();
        let wanted = |(of, user): &(Scope, UserId)| of == scope && (users.is_empty() || users.contains(user));
        let found = shelf.receipts.iter().filter(|(key, _)| wanted(key));
        let mut users: Vec<_> = found.map(|((_, user), (position, at))| (user.clone(), *position, *at)).collect();
        users.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
        users.truncate(most);
        Ok(Standing { top: None, earlier: Vec::new(), users })
    }
}
