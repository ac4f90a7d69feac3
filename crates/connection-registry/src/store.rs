//! The store that all instances share: leases, heartbeats, directory rows, session records and members. In memory for
//! one process, in Redis for a fleet.
//!
//! Every change of an instance's rows carries the token of its lease, and the store compares the token in the same
//! step. A process that was frozen past the end of its lease is therefore refused by the store, whatever the process
//! itself assumes.

mod memory;
mod record;
mod redis;
mod reply;

use std::future::Future;
use std::time::Duration;

use wire::{InstanceId, Scope};

use crate::connection_limits::ConnectionLimits;
use crate::connection_row::RowChange;
use crate::error::StoreError;
use crate::instance::{Incarnation, Instance};
use crate::lease::Token;
use crate::load::Heartbeat;
use crate::member::MemberChange;
use crate::presence_event::{PresenceBatch, PresenceCursor, PresenceSnapshot};
use crate::restores::{LookupResult, RecordLookup};
use crate::roster::PeerHeartbeat;
use crate::session_record::ClosedSessionRecord;

pub use self::memory::MemoryStore;
pub use self::redis::{Connected, RedisStore, RedisStoreConfig, RevocationCursor, RevocationLog, RevocationPage};
pub use self::reply::{Acquired, DirectoryReply, LeaseRenewal};

/// Most changes in one [`Store::write_rows`]: about 20 KiB, and some 3 ms of Redis' time with ten instances (measured,
/// 25 µs a row), during which Redis serves no other client.
pub const ROW_CHANGES_MAX: usize = 128;

/// Most changes in one [`Store::write_members`].
pub const MEMBER_CHANGES_MAX: usize = 128;

/// The state that instances share.
///
/// Contract, checked for every store by `tests/store_conformance.rs`:
///
/// - At most one incarnation of an instance id holds a lease. Each lease has its own token, which no other lease ever
///   had.
/// - A call with a token changes nothing and returns [`StoreError::Refused`] unless the token is that of the current
///   lease.
/// - When an incarnation ends, its members leave in the same step. If it released its lease or another incarnation
///   takes its place, they leave after the grace. A step that removes a member also publishes the change, so each
///   change is published once.
/// - Every call may be repeated without harm, and ends within the store's deadline.
pub trait Store: Send + Sync + 'static {
    /// Whether a lease ends by itself when it is not renewed.
    const LEASES_END: bool;

    /// The limits that the store enforces. While the store is away, each instance enforces them alone.
    fn limits(&self) -> ConnectionLimits;

    /// Asks for the lease of `instance.id`, and shows the heartbeat to the peers. The same incarnation may ask again,
    /// and gets a new token.
    fn acquire(
        &self,
        instance: &Instance,
        heartbeat: Heartbeat,
    ) -> impl Future<Output = Result<Acquired, StoreError>> + Send;

    /// Extends the lease and the rows, and shows the heartbeat to the peers. Returns the store's time, the number of
    /// rows, and commands for this instance. A command is sent again until the instance has received it: `acknowledged`
    /// is the number of the newest heartbeat whose reply was read, and commands sent in reply to it or to an earlier
    /// one are removed.
    fn renew(
        &self,
        instance: &Instance,
        token: &Token,
        heartbeat: Heartbeat,
        acknowledged: u64,
    ) -> impl Future<Output = Result<LeaseRenewal, StoreError>> + Send;

    /// Ends the lease, and removes the instance's rows and its entry among the peers.
    fn release(&self, instance: &Instance, token: &Token) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits until there are commands for an instance, which [`Self::renew`] then returns, or until there have been
    /// none for a while. Returns whether there are any. A wake-up may be missed or needless: it only saves time.
    fn wait_for_wakeup(&self, id: &InstanceId) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The newest heartbeat of every instance, including the one that asks.
    fn peers(&self) -> impl Future<Output = Result<Vec<PeerHeartbeat>, StoreError>> + Send;

    /// Changes rows of this incarnation, at most [`ROW_CHANGES_MAX`]. Returns the number of rows afterwards, and
    /// commands to close those connections that are not listed because of a limit or a newer connection. For
    /// connections that have to go because of a listed one, here or elsewhere, [`Self::renew`] returns the commands.
    fn write_rows(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[RowChange],
    ) -> impl Future<Output = Result<DirectoryReply, StoreError>> + Send;

    /// Stores records of sessions whose connections have ended, at most [`ROW_CHANGES_MAX`]. A record is not stored if
    /// a newer connection has left one, or has taken one on another instance. An incarnation leaves its records before
    /// it takes others.
    fn leave_records(
        &self,
        instance: &Instance,
        token: &Token,
        left: &[ClosedSessionRecord],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes records for connections of this instance, at most [`ROW_CHANGES_MAX`]. Each record is given to one lookup
    /// only. If another connection of the session is listed and is not certainly newer, its instance gets a command to
    /// close it.
    fn take_records(
        &self,
        instance: &Instance,
        token: &Token,
        lookups: &[RecordLookup],
    ) -> impl Future<Output = Result<Vec<LookupResult>, StoreError>> + Send;

    /// Deletes all rows of one incarnation of this instance: the current one or an earlier one.
    fn delete_rows(
        &self,
        instance: &Instance,
        token: &Token,
        of: Incarnation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes a dead peer and its rows, unless the peer has sent a heartbeat since `number` or holds its lease.
    /// Returns how many rows were removed. Returns `None` if the peer is alive, or if another instance has removed it.
    fn reap(
        &self,
        instance: &Instance,
        token: &Token,
        dead: &Instance,
        number: u64,
    ) -> impl Future<Output = Result<Option<usize>, StoreError>> + Send;

    /// Changes which members this incarnation holds, at most [`MEMBER_CHANGES_MAX`], and removes members that are due,
    /// of all instances. A member that no instance holds any more is due after the store's grace. If it returns before
    /// that, no change is published. Returns the time until the next member is due, if there is one.
    fn write_members(
        &self,
        instance: &Instance,
        token: &Token,
        changes: &[MemberChange],
    ) -> impl Future<Output = Result<Option<Duration>, StoreError>> + Send;

    /// Starts a rewrite of the members that this incarnation holds. A member that is not written again within this time
    /// leaves.
    fn rewrite_members(
        &self,
        instance: &Instance,
        token: &Token,
        within: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Members of scopes, for readers: the part of a store that needs no lease.
pub trait PresenceReader: Send + Sync + 'static {
    /// The members of these scopes, at most `most` of each.
    fn list_members(
        &self,
        scopes: &[Scope],
        most: usize,
    ) -> impl Future<Output = Result<PresenceSnapshot, StoreError>> + Send;

    /// Waits for changes after a cursor. Returns none when there are none for some seconds.
    fn next_presence_batches(
        &self,
        after: PresenceCursor,
    ) -> impl Future<Output = Result<Vec<PresenceBatch>, StoreError>> + Send;
}
