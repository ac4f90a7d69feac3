//! Where instances meet: leases, heartbeats and directory rows. A memory store for one process, Redis for a fleet.
//!
//! Every change of an instance's rows carries the token of its lease, and the store itself compares it in the same
//! step: a process that slept through its lease is refused there, not by its own good intentions.

mod memory;
mod record;
mod redis;

use std::future::Future;
use std::time::Duration;

use wire::{InstanceId, Scope, Timestamp};

use crate::directory::RowChange;
use crate::error::StoreError;
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::limits::{ConnectionLimits, DirectoryReply, LeaseRenewal};
use crate::load::Heartbeat;
use crate::member::{MemberChange, PresenceBatch, PresenceCursor, PresenceSnapshot};
use crate::restores::{LookupResult, RecordLookup};
use crate::roster::PeerHeartbeat;
use crate::session_record::ClosedSessionRecord;

pub use self::memory::MemoryStore;
pub use self::redis::{Connected, RedisStore, RedisStoreConfig};

/// The most changes in one [`Store::write_rows`]: about 20 KiB, and some 3 ms of Redis' time with ten instances (measured,
/// 25 µs a row), in which it serves nobody else.
pub const ROW_CHANGES_MAX: usize = 128;

/// The most changes in one [`Store::write_members`].
pub const MEMBER_CHANGES_MAX: usize = 128;

/// Keeps what instances know of each other.
///
/// Contract, checked for every store by `tests/store_conformance.rs`:
///
/// - At most one incarnation of an instance id holds a lease. Each lease has a token that no other ever had.
/// - Whatever takes a token does nothing and answers [`StoreError::Refused`] unless the token is the current lease.
/// - The members of an incarnation that has ended leave in the step that ends it, or after the grace if it said goodbye or
///   another one takes its place. Whoever takes a member out tells of it in the same step, so it is told once.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Whether a lease ends by itself when it is not renewed.
    const LEASES_END: bool;

    /// What it holds users and tenants to. While it is away, an instance does so alone.
    fn limits(&self) -> ConnectionLimits;

    /// Asks for the lease of `instance.id`, with a heartbeat as in renewing. The same incarnation may ask again, and gets
    /// a new token.
    fn acquire(
        &self,
        instance: &Instance,
        heartbeat: Heartbeat,
    ) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Gives the lease and the rows more time and shows the heartbeat to the peers. Answers what its clock says, how
    /// many rows there are, and what is to be done on somebody else's word, which is told until `acknowledged`, the number of
    /// the newest heartbeat whose answer was read, is that of a heartbeat that told it.
    fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        heartbeat: Heartbeat,
        acknowledged: u64,
    ) -> impl Future<Output = Result<LeaseRenewal, StoreError>> + Send;

    /// Ends the lease, with the instance's rows and its place among the peers.
    fn release(&self, instance: &Instance, token: &Token) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits until somebody has commands for an instance, which renewing brings, or until there have been none for a while.
    /// Whether there are. May be missed, and may be wrong: a word to save time.
    fn wait_for_wakeup(&self, id: &InstanceId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Every instance's newest heartbeat, one's own included.
    fn peers(&self) -> impl Future<Output = Result<Vec<PeerHeartbeat>, StoreError>> + Send;

    /// Changes rows of this incarnation, at most [`ROW_CHANGES_MAX`]. Answers how many rows there are now, and which of
    /// those that are put are to be closed instead of listed. Who is to go for them, here or elsewhere, renewing tells.
    fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> impl Future<Output = Result<DirectoryReply, StoreError>> + Send;

    /// Keeps records of sessions whose connections have ended, at most [`ROW_CHANGES_MAX`], unless a newer connection has
    /// left one, or taken one elsewhere: what this incarnation leaves comes before what it takes later.
    fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes records for connections of this instance, at most [`ROW_CHANGES_MAX`], each for one question alone. Where
    /// another connection of the session is listed that is not certainly newer, its instance is told to close it.
    fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> impl Future<Output = Result<Vec<LookupResult>, StoreError>> + Send;

    /// Deletes all rows of one incarnation of this instance: its own, or one before it.
    fn delete_rows(
        &self,
        instance: &Instance,
        token: &Token,
        of: Incarnation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes a peer that has died, and its rows, unless it has sent a heartbeat since `number` or holds its lease. Answers how
    /// many rows there were; none if it lives, or if another peer was first.
    fn reap(
        &self,
        instance: &Instance,
        token: &Token,
        dead: &Instance,
        number: u64,
    ) -> impl Future<Output = Result<Option<usize>, StoreError>> + Send;

    /// Changes which members this incarnation holds, at most [`MEMBER_CHANGES_MAX`], and lets those leave who are due.
    /// A member whose last instance has let go of it is due after the store's grace, and comes back without a word until
    /// then. Answers when to call again, if anybody is due later.
    fn write_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// What this incarnation holds is to be written anew: what is not, within so long, leaves.
    fn rewrite_members(
        &self,
        instance: &Instance,
        token: &Token,
        within: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Who is in which scope, for whoever asks: the part of a store that takes no lease.
pub trait PresenceReader: Send + Sync + 'static {
    /// Who is in these scopes, at most so many of each.
    fn list_members(
        &self,
        scopes: &[Scope],
        most: usize,
    ) -> impl Future<Output = Result<PresenceSnapshot, StoreError>> + Send;

    /// Waits for what has changed behind a place, and gives nothing when that has taken some seconds.
    fn next_presence_batches(
        &self,
        after: PresenceCursor,
    ) -> impl Future<Output = Result<Vec<PresenceBatch>, StoreError>> + Send;
}

/// The answer to [`Store::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is ours.
    Granted {
        /// Goes with every change.
        token: Token,
        /// What the store's clock says; nothing if it has none of its own.
        at: Option<Timestamp>,
        /// The incarnation that the peers saw last under our id, which may have left rows behind.
        before: Option<Incarnation>,
    },
    /// Another incarnation holds it.
    Busy {
        /// Which.
        holder: Incarnation,
    },
}
