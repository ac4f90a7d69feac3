//! The store of records: in memory for one process, in Redis for all instances.

mod either;
mod memory;
mod redis;

use std::future::Future;
use std::time::Duration;

use wire::{Position, Scope, TenantId, UserId};

use crate::dead_letters::{DeadLetter, DeadLetterId, StoredDeadLetter};
use crate::error::StoreError;
use crate::receipts::ScopeReceipts;

pub use self::either::EitherStore;
pub use self::memory::MemoryStore;
pub use self::redis::{RedisStore, RedisStoreConfig, ReplayError};

/// The retention of dead letters.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most dead letters of one tenant. Above this limit the oldest are removed.
    pub entries_max: u64,
    /// How long a dead letter is kept.
    pub ttl: Duration,
}

/// Most receipts of one scope in one call: 0.7 ms of Redis' time (measured on 7.0.15; 3.2 ms for 500).
pub(crate) const RECEIPTS_PER_CALL_MAX: usize = 100;
/// Most receipts in one [`Store::write_receipts`], over all scopes: about 50 KiB.
pub(crate) const RECEIPTS_PER_WRITE_MAX: usize = 500;

/// Keeps dead letters and receipts.
///
/// The contract, which `tests/store_conformance.rs` checks for every store:
///
/// - A deduplication key is stored once, even after its dead letter was removed, for as long as dead letters are kept.
/// - The ids of a tenant's dead letters increase. No tenant sees those of another.
/// - A receipt never decreases, in whatever order the writes come. Generations are compared before offsets, both as
///   numbers.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Stores a dead letter. Returns whether it is new.
    fn keep(&self, dead_letter: &DeadLetter) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The dead letters of a tenant that are older than `before`, newest first, at most `most` of them.
    fn dead_letters(
        &self,
        tenant: &TenantId,
        before: Option<DeadLetterId>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<StoredDeadLetter>, StoreError>> + Send;

    /// One dead letter, if it is still stored.
    fn dead_letter(
        &self,
        tenant: &TenantId,
        id: DeadLetterId,
    ) -> impl Future<Output = Result<Option<StoredDeadLetter>, StoreError>> + Send;

    /// Removes dead letters. Returns how many of them existed.
    fn remove(&self, tenant: &TenantId, ids: &[DeadLetterId])
    -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Writes receipts, scope by scope. Returns how many positions have increased.
    fn write_receipts(
        &self,
        batch: &[(Scope, Vec<(UserId, Position)>)],
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The receipts of a scope: those of these users or, without users, the `most` receipts that changed least
    /// recently.
    fn scope_receipts(
        &self,
        scope: &Scope,
        users: &[UserId],
        most: usize,
    ) -> impl Future<Output = Result<ScopeReceipts, StoreError>> + Send;
}
