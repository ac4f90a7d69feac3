//! Records of sessions on their way: those that connections have left, and those that new connections ask for.
//!
//! ```text
//!   shards ── leave, ask ──▶ Restores ──▶ heartbeat ══▶ records in Redis
//!   shards ◀─ Errand::Restored ◀───────── heartbeat ◀══
//! ```
//!
//! Bounded: one question for each connection at most, and [`LEFT_BYTES_MAX`] of records that the store has yet to learn.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wire::{SessionId, TenantId, Timestamp, UserId};

use crate::directory::RegistrationNumber;
use crate::session_record::{ClosedSessionRecord, SessionRecord};

/// Records that wait while the store is away. Further ones are let go of, and their clients told that there is none.
const LEFT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// For so long an instance that still has the session connected is waited for. It closes the older connection at once,
/// and one whose client does not answer within a second or two.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(4);

/// Between two questions while it is.
pub(crate) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A connection that asks for the record of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Of which session.
    pub session: SessionId,
    /// Of which customer.
    pub tenant: TenantId,
    /// Who asks: nobody gets another one's record.
    pub user: UserId,
    /// Since when the connection is there, by this instance's clock; in the store, by the store's.
    pub since: Timestamp,
    /// The same by the monotonic clock.
    pub arrival: Instant,
    /// Its number here.
    pub number: RegistrationNumber,
    /// On which shard of this instance.
    pub shard: u16,
    /// An older connection of this session on this instance has been told to end, and leaves a record.
    pub awaited: bool,
}

/// What became of an [`RestoreRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreResult {
    /// Here is the record; nobody else gets it.
    Found(SessionRecord),
    /// There is none, or it is another one's.
    Nothing,
    /// A newer connection goes on with the session.
    Replaced,
}

/// What a store knows of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupResult {
    /// This one, which is the asker's from now on.
    Record(SessionRecord),
    /// None.
    Nothing,
    /// None yet: an older connection of the session is being closed, or another one has just taken it.
    Awaited,
    /// A newer connection goes on with the session.
    Replaced,
}

/// An [`RestoreRequest`] on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordLookup {
    /// What is asked.
    pub ask: RestoreRequest,
    /// Since when the connection is there at the latest, by the store's clock.
    pub latest: Timestamp,
    /// Different for each in one incarnation of an instance, and the same when it is asked again.
    pub number: u64,
    /// When to give up.
    until: Instant,
    /// When to ask next.
    due: Instant,
}

impl RecordLookup {
    /// To be asked now.
    #[must_use]
    pub fn new(ask: RestoreRequest, number: u64, now: Instant) -> Self {
        Self { latest: ask.since, ask, number, until: now + HANDED_OVER_WITHIN, due: now }
    }
}

/// The queues of one instance.
#[derive(Debug, Default)]
pub struct Restores {
    waiting: Mutex<Waiting>,
    changes: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    left: Vec<ClosedSessionRecord>,
    left_bytes: usize,
    lookups: Vec<RecordLookup>,
    number: u64,
}

impl Restores {
    /// A connection has ended. To be called before its row is removed, so that a session is listed or has a record.
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

    /// A connection wants its session's record, from now on.
    pub fn ask(&self, ask: RestoreRequest, now: Instant) {
        let mut waiting = self.waiting();
        waiting.number += 1;
        let number = waiting.number;
        waiting.lookups.push(RecordLookup::new(ask, number, now));
        drop(waiting);
        self.changes.notify_one();
    }

    /// Waits until there is something since the last call.
    pub(crate) async fn wait_for_new(&self) {
        self.changes.notified().await;
    }

    /// Up to `max` records for the store, oldest first.
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

    /// Puts records back whose fate in the store is unknown. Writing one again does no harm.
    pub fn put_back(&self, left: Vec<ClosedSessionRecord>) {
        let mut waiting = self.waiting();
        waiting.left_bytes += left.iter().map(bytes).sum::<usize>();
        waiting.left.splice(..0, left);
    }

    /// Up to `max` questions that are due.
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

    /// Puts questions back that the store did not answer. Asking again does no harm.
    pub fn ask_again(&self, lookups: Vec<RecordLookup>) {
        self.waiting().lookups.splice(..0, lookups);
    }

    /// When the next question is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting().lookups.iter().map(|lookup| lookup.due).min()
    }

    /// What an answer means for the one who asked; nothing while it is waited for.
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
                lookup.due = now + ASK_AGAIN_AFTER;
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

fn bytes(left: &ClosedSessionRecord) -> usize {
    let channels = left.record.channels.iter().map(|(name, _)| name.len() + 64);
    size_of::<ClosedSessionRecord>() + channels.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{ConnectionRow, Directory};

    fn ask(awaited: bool) -> RestoreRequest {
        static ARRIVAL: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let (tenant, user) = (TenantId::default(), UserId::parse("alice").unwrap());
        let row = ConnectionRow { tenant: tenant.clone(), user: user.clone(), shard: 0, connected_at: Timestamp(1) };
        let session = SessionId::from_random(1);
        let number = Directory::default().connect(session, row).number();
        RestoreRequest { session, tenant, user, since: Timestamp(1), arrival: *ARRIVAL, number, shard: 0, awaited }
    }

    fn left(n: u128, channels: usize) -> ClosedSessionRecord {
        let RestoreRequest { tenant, user, since, arrival, .. } = ask(false);
        let channels = vec![("collection:42".into(), None); channels];
        let record = SessionRecord { channels, exact: false };
        ClosedSessionRecord { session: SessionId::from_random(n), tenant, user, since, arrival, record }
    }

    fn asked(restores: &Restores, now: Instant) -> RecordLookup {
        restores.take_due(1, now).pop().expect("it is due")
    }

    #[test]
    fn an_unknown_session_is_answered_at_once_and_one_that_is_handed_over_within_its_time() {
        let (restores, now) = (Restores::default(), Instant::now());
        restores.ask(ask(false), now);
        let now = now + Duration::from_secs(1);
        let lookup = asked(&restores, now);
        assert_eq!(restores.settle(lookup, LookupResult::Nothing, now), Some((ask(false), RestoreResult::Nothing)));

        restores.ask(ask(false), now);
        let lookup = asked(&restores, now);
        assert_eq!(restores.settle(lookup, LookupResult::Awaited, now), None);
        assert_eq!(restores.take_due(1, now), [], "not again at once");
        let later = now + ASK_AGAIN_AFTER;
        let lookup = asked(&restores, later);
        // Its row may go a moment before its record is seen.
        assert_eq!(restores.settle(lookup, LookupResult::Nothing, later), None);
        let late = later + HANDED_OVER_WITHIN;
        let lookup = asked(&restores, late);
        assert_eq!(restores.settle(lookup, LookupResult::Nothing, late).unwrap().1, RestoreResult::Nothing);
        assert_eq!(restores.next_due(), None);
    }

    #[test]
    fn records_that_wait_are_bounded_and_keep_their_order() {
        let restores = Restores::default();
        (0..100).for_each(|n| restores.leave(left(n, 1)));
        let first = restores.take_left(10, usize::MAX);
        assert_eq!(
            first.iter().map(|left| left.session).collect::<Vec<_>>(),
            (0..10).map(SessionId::from_random).collect::<Vec<_>>()
        );
        restores.put_back(first.clone());
        assert_eq!(restores.take_left(10, 1), first[..1], "one at least");
        assert_eq!(restores.take_left(9, usize::MAX), first[1..]);
        let rest = restores.take_left(1_000, usize::MAX);
        assert_eq!((rest.len(), restores.waiting().left_bytes), (90, 0));
        (0..10_000).for_each(|n| restores.leave(left(n, 256)));
        assert!(restores.waiting().left_bytes <= LEFT_BYTES_MAX);
        assert!(restores.take_left(10_000, usize::MAX).len() < 10_000);
    }
}
