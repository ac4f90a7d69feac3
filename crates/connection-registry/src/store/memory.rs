//! The store of a gateway without Redis: it lives and dies with the process, so its leases never end.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wire::{InstanceId, SessionId};

use crate::directory::RowChange;
use crate::error::{Refusal, StoreError};
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::roster::Beat;
use crate::store::{Acquired, ROW_CHANGES_MAX, Store};

/// A registry in memory. Clones are the same registry: instances within one process can share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    registry: Arc<Mutex<Registry>>,
}

#[derive(Debug, Default)]
struct Registry {
    /// Number of the newest token.
    tokens: u64,
    leases: HashMap<InstanceId, (Token, Incarnation)>,
    /// Newest beats, and when they came.
    peers: HashMap<InstanceId, (Instance, u64, Instant)>,
    /// Sessions only: the rows themselves are in the instance's own directory, in this same process.
    rows: HashMap<(InstanceId, Incarnation), HashSet<SessionId>>,
}

impl MemoryStore {
    /// The sessions listed for one incarnation.
    #[must_use]
    pub fn sessions(&self, id: &InstanceId, of: Incarnation) -> Vec<SessionId> {
        self.registry().rows.get(&(id.clone(), of)).map(|rows| rows.iter().copied().collect()).unwrap_or_default()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry, if `token` is the instance's lease.
    fn fenced(&self, instance: &Instance, token: &Token) -> Result<MutexGuard<'_, Registry>, StoreError> {
        let registry = self.registry();
        match registry.leases.get(&instance.id) {
            Some((held, _)) if held == token => Ok(registry),
            Some(_) => Err(StoreError::Refused(Refusal::Taken)),
            None => Err(StoreError::Refused(Refusal::Expired)),
        }
    }
}

impl Registry {
    fn count(&self, instance: &Instance) -> usize {
        self.rows.get(&(instance.id.clone(), instance.incarnation)).map_or(0, HashSet::len)
    }
}

// === impl Store ===

impl Store for MemoryStore {
    const LEASES_END: bool = false;

    async fn acquire(&self, instance: &Instance, number: u64) -> Result<Acquired, StoreError> {
        let mut registry = self.registry();
        if let Some((_, holder)) = registry.leases.get(&instance.id)
            && *holder != instance.incarnation
        {
            return Ok(Acquired::Busy { holder: *holder });
        }
        registry.tokens += 1;
        let token = Token::new(&format!("memory:{}:{}", registry.tokens, instance.incarnation));
        registry.leases.insert(instance.id.clone(), (token.clone(), instance.incarnation));
        let before = registry.peers.insert(instance.id.clone(), (instance.clone(), number, Instant::now()));
        Ok(Acquired::Granted { token, before: before.map(|(before, ..)| before.incarnation) })
    }

    async fn renew(&self, instance: &Instance, token: &Token, number: u64) -> Result<usize, StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.peers.insert(instance.id.clone(), (instance.clone(), number, Instant::now()));
        Ok(registry.count(instance))
    }

    async fn release(&self, instance: &Instance, token: &Token) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.leases.remove(&instance.id);
        registry.peers.remove(&instance.id);
        registry.rows.remove(&(instance.id.clone(), instance.incarnation));
        Ok(())
    }

    async fn peers(&self) -> Result<Vec<Beat>, StoreError> {
        let registry = self.registry();
        let beat = |(instance, number, at): &(Instance, u64, Instant)| {
            let age = at.elapsed();
            Beat { instance: instance.clone(), number: *number, age }
        };
        Ok(registry.peers.values().map(beat).collect())
    }

    async fn write_rows(&self, instance: &Instance, token: &Token, changes: &[RowChange]) -> Result<usize, StoreError> {
        assert!(changes.len() <= ROW_CHANGES_MAX, "a batch of rows is bounded");
        let mut registry = self.fenced(instance, token)?;
        let rows = registry.rows.entry((instance.id.clone(), instance.incarnation)).or_default();
        for change in changes {
            match change {
                RowChange::Put(session, _) => rows.insert(*session),
                RowChange::Remove(session) => rows.remove(session),
            };
        }
        Ok(registry.count(instance))
    }

    async fn delete_rows(&self, instance: &Instance, token: &Token, of: Incarnation) -> Result<(), StoreError> {
        let mut registry = self.fenced(instance, token)?;
        registry.rows.remove(&(instance.id.clone(), of));
        Ok(())
    }
}
