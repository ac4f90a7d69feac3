//! The buffer of receipts between the shards and the writer. It keeps only the highest position of each user and scope:
//! a client may acknowledge every message, and one write per second covers all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::{Position, Scope, UserId};

use super::receipt::Receipt;

/// Most pairs of user and scope that wait, about 10 MiB. Further ones are counted and dropped: receipts are cumulative,
/// so the client's next receipt repairs the loss.
const WAITING_MAX: usize = 65_536;

/// Takes receipts from any thread.
#[derive(Debug, Default)]
pub struct ReceiptBuffer {
    waiting: Mutex<HashMap<Scope, HashMap<UserId, Position>>>,
    counts: ReceiptCounts,
}

/// Totals of receipts, for metrics.
#[derive(Debug, Default)]
pub struct ReceiptCounts {
    /// Receipts taken from clients.
    pub taken: AtomicU64,
    /// Receipts written to the store. One of them may cover many that were taken.
    pub written: AtomicU64,
    /// Receipts dropped, because too many waited or the store rejects them permanently.
    pub dropped: AtomicU64,
    /// Gauge: pairs of user and scope that wait to be written.
    pub waiting: AtomicU64,
}

impl ReceiptBuffer {
    /// Totals of receipts, for metrics.
    #[must_use]
    pub fn counts(&self) -> &ReceiptCounts {
        &self.counts
    }

    /// Takes a receipt from a client.
    pub fn note(&self, receipt: Receipt) {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        self.keep(receipt);
    }

    /// Removes all waiting receipts, grouped by scope.
    pub(crate) fn take(&self) -> HashMap<Scope, HashMap<UserId, Position>> {
        let mut waiting = self.lock();
        self.counts.waiting.store(0, Ordering::Relaxed);
        std::mem::take(&mut *waiting)
    }

    /// Adds a receipt, unless a higher one of the same user and scope waits. Also used to put back receipts that could
    /// not be written.
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
        // The code between lock and unlock does not panic.
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
        // A receipt that is put back does not replace a newer one.
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
        assert_eq!(receipt_buffer.counts().dropped.load(Ordering::Relaxed), 10, "waiting users are still updated");
        assert_eq!(receipt_buffer.take().into_values().next().unwrap().len(), WAITING_MAX);
    }
}
