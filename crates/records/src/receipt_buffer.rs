//! Where threads leave receipts. Only the furthest of each user and scope waits: a client may acknowledge every message,
//! and one write a second stands for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::{Position, Scope, UserId};

use crate::receipt::Receipt;

/// So many users and scopes may wait, about 10 MiB. Further ones are counted and let go of: receipts are cumulative, and
/// the client's next one makes good for it.
const WAITING_MAX: usize = 65_536;

/// Takes receipts from any thread.
#[derive(Debug, Default)]
pub struct ReceiptBuffer {
    waiting: Mutex<HashMap<Scope, HashMap<UserId, Position>>>,
    counts: ReceiptCounts,
}

/// What became of receipts, for metrics.
#[derive(Debug, Default)]
pub struct ReceiptCounts {
    /// Taken from clients.
    pub taken: AtomicU64,
    /// Written to the store; many that were taken may be one that was written.
    pub written: AtomicU64,
    /// Let go of: too many waited, or the store will not have them.
    pub dropped: AtomicU64,
    /// Gauge: users and scopes that wait to be written.
    pub waiting: AtomicU64,
}

impl ReceiptBuffer {
    /// What became of receipts.
    #[must_use]
    pub fn counts(&self) -> &ReceiptCounts {
        &self.counts
    }

    /// A client has acknowledged.
    pub fn note(&self, receipt: Receipt) {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        self.keep(receipt);
    }

    /// Takes out what waits, by scope.
    pub(crate) fn take(&self) -> HashMap<Scope, HashMap<UserId, Position>> {
        let mut waiting = self.lock();
        self.counts.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut *waiting)
    }

    /// Puts back what could not be written, behind what has come since.
    pub(crate) fn keep(&self, receipt: Receipt) {
        let Receipt { scope, user, position } = receipt;
        let mut waiting = self.lock();
        let known = waiting.get_mut(&scope).and_then(|users| users.get_mut(&user));
        if let Some(known) = known {
            *known = (*known).max(position);
        } else if self.counts.waiting.load(Ordering::Relaxed) >= WAITING_MAX as u64 {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.entry(scope).or_default().insert(user, position);
            self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, HashMap<UserId, Position>>> {
        // Nothing between lock and unlock panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use wire::Families;

    use super::*;

    fn receipt(user: &str, generation: u64, offset: u64) -> Receipt {
        Receipt {
            scope: Families::default().parse_scope("acme/collection:1").unwrap(),
            user: UserId::parse(user).unwrap(),
            position: Position::new(generation, offset),
        }
    }

    #[test]
    fn the_furthest_of_each_user_waits() {
        let receipt_buffer = ReceiptBuffer::default();
        for (generation, offset) in [(7, 9), (7, 10), (8, 1), (7, 11)] {
            receipt_buffer.note(receipt("alice", generation, offset));
        }
        receipt_buffer.note(receipt("bob", 7, 1));
        let taken = receipt_buffer.take();
        let users = taken.values().next().unwrap();
        assert_eq!(users[&UserId::parse("alice").unwrap()], Position::new(8, 1), "numbers, not texts");
        assert_eq!((taken.len(), users.len()), (1, 2));
        assert!(receipt_buffer.take().is_empty());
        // What could not be written does not take back what came since.
        receipt_buffer.note(receipt("alice", 8, 2));
        receipt_buffer.keep(receipt("alice", 8, 1));
        assert_eq!(receipt_buffer.take().into_values().next().unwrap().into_values().next(), Some(Position::new(8, 2)));
    }

    #[test]
    fn further_ones_are_counted_when_too_many_wait() {
        let receipt_buffer = ReceiptBuffer::default();
        for n in 0..WAITING_MAX + 10 {
            receipt_buffer.note(receipt(&n.to_string(), 7, 1));
        }
        receipt_buffer.note(receipt("0", 7, 2));
        assert_eq!(receipt_buffer.counts().dropped.load(Ordering::Relaxed), 10, "who waits already is not turned away");
        assert_eq!(receipt_buffer.take().into_values().next().unwrap().len(), WAITING_MAX);
    }
}
