//! The store that the configuration selects.

use wire::{Position, Scope, TenantId, UserId};

use crate::dead_letters::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::error::StoreError;
use crate::receipts::ScopeReceipts;
use crate::store::{MemoryStore, RedisStore, Store};

/// A store in memory or in Redis. Clones share the same records.
#[derive(Debug, Clone)]
pub enum EitherStore {
    /// Records of one process, in its memory.
    Memory(MemoryStore),
    /// Records of all instances, in Redis.
    Redis(Box<RedisStore>),
}

impl Store for EitherStore {
    async fn keep(&self, dead_letter: &DeadLetter) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.keep(dead_letter).await,
            Self::Redis(store) => store.keep(dead_letter).await,
        }
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        before: Option<DeadLetterId>,
        most: usize,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        match self {
            Self::Memory(store) => store.dead_letters(tenant, before, most).await,
            Self::Redis(store) => store.dead_letters(tenant, before, most).await,
        }
    }

    async fn dead_letter(&self, tenant: &TenantId, id: DeadLetterId) -> Result<Option<StoredDeadLetter>, StoreError> {
        match self {
            Self::Memory(store) => store.dead_letter(tenant, id).await,
            Self::Redis(store) => store.dead_letter(tenant, id).await,
        }
    }

    async fn remove(&self, tenant: &TenantId, ids: &[DeadLetterId]) -> Result<usize, StoreError> {
        match self {
            Self::Memory(store) => store.remove(tenant, ids).await,
            Self::Redis(store) => store.remove(tenant, ids).await,
        }
    }

    async fn write_receipts(&self, batch: &[(Scope, Vec<(UserId, Position)>)]) -> Result<u64, StoreError> {
        match self {
            Self::Memory(store) => store.write_receipts(batch).await,
            Self::Redis(store) => store.write_receipts(batch).await,
        }
    }

    async fn scope_receipts(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<ScopeReceipts, StoreError> {
        match self {
            Self::Memory(store) => store.scope_receipts(scope, users, most).await,
            Self::Redis(store) => store.scope_receipts(scope, users, most).await,
        }
    }
}
