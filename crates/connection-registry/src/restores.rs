//! Session records on their way: records that closed connections leave, and records that new connections ask for.
//!
//! ```text
//!   shards ── leave, ask ─────────────▶ Restores ──▶ heartbeat ══▶ records in Redis
//!   shards ◀─ SessionCommand::Restored ◀──────────── heartbeat ◀══
//! ```
//!
//! Both queues are bounded: at most one lookup for each connection, and [`LEFT_BYTES_MAX`] of records that are not in
//! the store yet.

mod lookup;
mod request;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::session_record::ClosedSessionRecord;

pub use self::lookup::{LookupResult, RecordLookup};
pub use self::request::{RestoreRequest, RestoreResult};

/// Bytes of records that wait while the store is away. Further records are dropped, and their clients are told that
/// there is none.
const LEFT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The queues of one instance.
#[derive(Debug, Default)]
pub struct Restores {
    waiting: Mutex<Waiting>,
    changes: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    left: Vec<ClosedSessionRecord>,
    /// Size of `left`, by [`bytes`].
    left_bytes: usize,
    lookups: Vec<RecordLookup>,
    /// Number of the newest lookup.
    number: u64,
}

impl Restores {
    /// Queues the record of a connection that has ended. Call it before the connection's row is removed, so that a
    /// session always has a row or a record.
    pub fn leave(&self, left: ClosedSessionRecord) {
        let mut waiting = self.waiting();
        let bytes = bytes(&left);
        if waiting.left_bytes + bytes > LEFT_BYTES_MAX {
            tracing::debug!(session = %left.session, "session record dropped: too many are waiting");
            return;
        }
        waiting.left_bytes += bytes;
        waiting.left.push(left);
        drop(waiting);
        self.changes.notify_one();
    }

    /// Queues a lookup for a connection, due at once.
    pub fn ask(&self, ask: RestoreRequest, now: Instant) {
        let mut waiting = self.waiting();
        waiting.number += 1;
        let number = waiting.number;
        waiting.lookups.push(RecordLookup::new(ask, number, now));
        drop(waiting);
        self.changes.notify_one();
    }

    /// Waits until a record or a lookup has been queued since the last call.
    pub(crate) async fn wait_for_new(&self) {
        self.changes.notified().await;
    }

    /// Takes up to `max` records for the store, oldest first. Stops above `bytes_max`, but takes at least one.
    pub fn take_left(&self, max: usize, bytes_max: usize) -> Vec<ClosedSessionRecord> {
        let mut waiting = self.waiting();
        let (mut count, mut total) = (0, 0);
        for left in waiting.left.iter().take(max) {
            if count > 0 && total + bytes(left) > bytes_max {
                break;
            }
            (count, total) = (count + 1, total + bytes(left));
        }
        waiting.left_bytes -= total;
        waiting.left.drain(..count).collect()
    }

    /// Puts records back when it is unknown whether the store has them. A second write of the same record does no harm.
    pub fn put_back(&self, left: Vec<ClosedSessionRecord>) {
        let mut waiting = self.waiting();
        waiting.left_bytes += left.iter().map(bytes).sum::<usize>();
        waiting.left.splice(..0, left);
    }

    /// Takes up to `max` lookups that are due.
    pub fn take_due(&self, max: usize, now: Instant) -> Vec<RecordLookup> {
        let mut waiting = self.waiting();
        let mut room = max;
        let due = waiting.lookups.extract_if(.., |lookup| {
            let takes = room > 0 && lookup.due <= now;
            room -= usize::from(takes);
            takes
        });
        due.collect()
    }

    /// Puts lookups back that the store did not answer. A repeated lookup does no harm.
    pub fn ask_again(&self, lookups: Vec<RecordLookup>) {
        self.waiting().lookups.splice(..0, lookups);
    }

    /// When the next lookup is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting().lookups.iter().map(|lookup| lookup.due).min()
    }

    /// Turns the store's answer into the answer for the connection. Returns nothing if the lookup is to be repeated; it
    /// is queued again then.
    pub fn settle(
        &self,
        mut lookup: RecordLookup,
        kept: LookupResult,
        now: Instant,
    ) -> Option<(RestoreRequest, RestoreResult)> {
        let restored = match kept {
            LookupResult::Record(record) => RestoreResult::Found(record),
            LookupResult::Replaced => RestoreResult::Replaced,
            LookupResult::Nothing if !lookup.ask.awaited => RestoreResult::Nothing,
            LookupResult::Nothing | LookupResult::Awaited if now >= lookup.until => RestoreResult::Nothing,
            kept => {
                lookup.ask.awaited |= kept == LookupResult::Awaited;
                lookup.due = now + lookup::ASK_AGAIN_AFTER;
                self.waiting().lookups.push(lookup);
                return None;
            }
        };
        Some((lookup.ask, restored))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing between lock and unlock panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Approximate memory of a queued record.
fn bytes(left: &ClosedSessionRecord) -> usize {
    let channels = left.record.channels.iter().map(|(name, _)| name.len() + 64);
    size_of::<ClosedSessionRecord>() + channels.sum::<usize>()
}

#[cfg(test)]
mod tests;
