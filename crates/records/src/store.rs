//! Where records are kept. A memory store for one process, Redis for a fleet.

mod either;
mod memory;
mod redis;

use std::future::Future;
use std::time::Duration;

use wire::{Position, Scope, TenantId, UserId};

use crate::error::StoreError;
use crate::letter::{KeptLetter, Letter, LetterId};
use crate::receipt::Standing;

pub use self::either::EitherStore;
pub use self::memory::MemoryStore;
pub use self::redis::{RedisStore, RedisStoreConfig, ReplayError};

/// How much is kept of dead letters.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Letters of one tenant; the oldest go.
    pub entries_max: u64,
    /// How long one is kept.
    pub ttl: Duration,
}

/// Most receipts of one scope in one call: 0.7 ms of Redis' time (measured on 7.0.15; 3.2 ms for 500).
pub(crate) const RECEIPTS_PER_CALL_MAX: usize = 100;
/// Most receipts in one [`Store::write_receipts`], over all scopes: about 50 KiB.
pub(crate) const RECEIPTS_PER_WRITE_MAX: usize = 500;

/// Keeps records.
///
/// Contract, checked for every store by `tests/store_conformance.rs`:
///
/// - A letter's mark is kept once, even after the letter was removed, as long as letters are kept.
/// - Ids of a tenant's letters grow. No tenant sees another's.
/// - A receipt never goes back, whoever writes last. Generations are compared before offsets, both as numbers.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Keeps a letter. Whether it was new.
    fn keep(&self, letter: &Letter) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// At most `most` letters of a tenant that are older than `before`, newest first.
    fn letters(
        &self,
        tenant: &TenantId,
        before: Option<LetterId>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<KeptLetter>, StoreError>> + Send;

    /// One letter, if it is still there.
    fn letter(
        &self,
        tenant: &TenantId,
        id: LetterId,
    ) -> impl Future<Output = Result<Option<KeptLetter>, StoreError>> + Send;

    /// Removes letters. How many were there.
    fn remove(&self, tenant: &TenantId, ids: &[LetterId]) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Writes down how far users have got, scope by scope. How many have got further.
    fn write_receipts(
        &self,
        batch: &[(Scope, Vec<(UserId, Position)>)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Who has got how far in a scope: these users, or without any, at most `most` of those whose receipts are oldest.
    fn standing(
        &self,
        scope: &Scope,
        users: &[UserId],
        most: usize,
    ) -> impl Future<Output = Result<Standing, StoreError>> + Send;
}
