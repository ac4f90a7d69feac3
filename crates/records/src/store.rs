//! Where records are kept. A memory store for one process, Redis for a fleet.

mod either;
mod memory;
mod redis;

use std::future::Future;
use std::time::Duration;

use wire::{Position, Scope, TenantId, UserId};

use crate::dead_letter::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::error::StoreError;
use crate::receipt::ScopeReceipts;

pub use self::either::EitherStore;
pub use self::memory::MemoryStore;
pub use self::redis::{RedisStore, RedisStoreConfig, ReplayError};

/// How much is kept of dead letters.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Dead letters of one tenant; the oldest go.
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
/// - A dead letter's mark is kept once, even after the dead letter was removed, as long as dead letters are kept.
/// - Ids of a tenant's dead letters grow. No tenant sees another's.
/// - A receipt never goes back, whoever writes last. Generations are compared before offsets, both as numbers.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Keeps a dead letter. Whether it was new.
    fn keep(&self, dead_letter: &DeadLetter) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// At most `most` dead letters of a tenant that are older than `before`, newest first.
    fn dead_letters(
        &self,
        tenant: &TenantId,
        before: Option<DeadLetterId>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<StoredDeadLetter>, StoreError>> + Send;

    /// One dead letter, if it is still there.
    fn dead_letter(
        &self,
        tenant: &TenantId,
        id: DeadLetterId,
    ) -> impl Future<Output = Result<Option<StoredDeadLetter>, StoreError>> + Send;

    /// Removes dead letters. How many were there.
    fn remove(&self, tenant: &TenantId, ids: &[DeadLetterId])
    -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Writes down how far users have got, scope by scope. How many have got further.
    fn write_receipts(
        &self,
        batch: &[(Scope, Vec<(UserId, Position)>)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Who has got how far in a scope: these users, or without any, at most `most` of those whose receipts are oldest.
    fn scope_receipts(
        &self,
        scope: &Scope,
        users: &[UserId],
        most: usize,
    ) -> impl Future<Output = Result<ScopeReceipts, StoreError>> + Send;
}
