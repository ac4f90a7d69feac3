//! Where instances meet: leases, beats and directory rows. A memory store for one process, Redis for a fleet.
//!
//! Every change of an instance's rows carries the token of its lease, and the store itself compares it in the same
//! step: a process that slept through its lease is refused there, not by its own good intentions.

mod memory;
mod record;
mod redis;

use std::future::Future;

use crate::directory::RowChange;
use crate::error::StoreError;
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::roster::Beat;

pub use self::memory::MemoryStore;
pub use self::redis::{BadRedis, RedisStore, RedisStoreConfig};

/// The most changes in one [`Store::write_rows`]: about 80 KiB, and half a millisecond of Redis' time (measured).
pub const ROW_CHANGES_MAX: usize = 512;

/// Keeps what instances know of each other.
///
/// Contract, checked for every store by `tests/store_conformance.rs`:
///
/// - At most one incarnation of an instance id holds a lease. Each lease has a token that no other ever had.
/// - Whatever takes a token does nothing and answers [`StoreError::Refused`] unless the token is the current lease.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Whether a lease ends by itself when it is not renewed.
    const LEASES_END: bool;

    /// Asks for the lease of `instance.id`, with a beat as in renewing. The same incarnation may ask again, and gets
    /// a new token.
    fn acquire(&self, instance: &Instance, number: u64) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Gives the lease and the rows more time and shows the beat to the peers. Answers how many rows there are.
    fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        number: u64,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Ends the lease, with the instance's rows and its place among the peers.
    fn release(&self, instance: &Instance, token: &Token) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Every instance's newest beat, one's own included.
    fn peers(&self) -> impl Future<Output = Result<Vec<Beat>, StoreError>> + Send;

    /// Changes rows of this incarnation, at most [`ROW_CHANGES_MAX`]. Answers how many rows there are now.
    fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Deletes all rows of one incarnation of this instance: its own, or one before it.
    fn delete_rows(
        &self,
        instance: &Instance,
        token: &Token,
        of: Incarnation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The answer to [`Store::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is ours.
    Granted {
        /// Goes with every change.
        token: Token,
        /// The incarnation that the peers saw last under our id, which may have left rows behind.
        before: Option<Incarnation>,
    },
    /// Another incarnation holds it.
    Busy {
        /// Which.
        holder: Incarnation,
    },
}
