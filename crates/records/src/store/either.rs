//! The store that the configuration names.

use wire::{Position, Scope, TenantId, UserId};

use crate::error::StoreError;
use crate::letter::{KeptLetter, Letter, LetterId};
use crate::receipt::Standing;
use crate::store::{MemoryStore, RedisStore, Store};

/// One store or the other. Clones are the same store.
#[derive(Debug, Clone)]
pub enum EitherStore {
    /// In this process.
    Memory(MemoryStore),
    /// For the fleet.
    Redis(Box<RedisStore>),
}

impl Store for EitherStore {
    async fn keep(&self, letter: &Letter) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => store.keep(letter).await,
            Self::Redis(store) => store.keep(letter).await,
        }
    }

    async fn letters(
        &self,
        tenant: &TenantId,
        before: Option<LetterId>,
        most: usize,
    ) -> Result<Vec<KeptLetter>, StoreError> {
        match self {
            Self::Memory(store) => store.letters(tenant, before, most).await,
            Self::Redis(store) => store.letters(tenant, before, most).await,
        }
    }

    async fn letter(&self, tenant: &TenantId, id: LetterId) -> Result<Option<KeptLetter>, StoreError> {
        match self {
            Self::Memory(store) => store.letter(tenant, id).await,
            Self::Redis(store) => store.letter(tenant, id).await,
        }
    }

    async fn remove(&self, tenant: &TenantId, ids: &[LetterId]) -> Result<usize, StoreError> {
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

    async fn standing(&self, scope: &Scope, users: &[UserId], most: usize) -> Result<Standing, StoreError> {
        match self {
            Self::Memory(store) => store.standing(scope, users, most).await,
            Self::Redis(store) => store.standing(scope, users, most).await,
        }
    }
}
