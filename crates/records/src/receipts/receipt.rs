//! Receipts: how far a user has acknowledged a scope, and what can be derived from it.

use wire::{Position, Scope, Timestamp, UserId};

/// A user has processed every message of a scope up to this position, on the device that is furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The scope of the acknowledged messages.
    pub scope: Scope,
    /// The user, in the tenant of the scope.
    pub user: UserId,
    /// The last acknowledged position.
    pub position: Position,
}

/// The receipts of one scope, and what is known of its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeReceipts {
    /// The newest position of the scope. None if the scope has not begun or is forgotten.
    pub top: Option<Position>,
    /// Earlier generations that are still known, oldest first, each with the newest offset that it gave out.
    pub earlier: Vec<Position>,
    /// Each user with the last acknowledged position and the time of its last change.
    pub users: Vec<(UserId, Position, Timestamp)>,
}

/// How many messages lie between a receipt and the newest position of the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lag {
    /// Exactly this many messages.
    Exactly(u64),
    /// At most this many: the positions given out since, over a failover, which may have lost some of them.
    AtMost(u64),
    /// Redis does not know the position of the receipt, or no longer does.
    Unknown,
}

/// Whether a user has acknowledged a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The message is acknowledged.
    Yes,
    /// The message is not acknowledged, or not yet.
    No,
    /// Redis does not know the position: it was never given out, or was lost in a failover.
    Unknown,
}

impl ScopeReceipts {
    /// The number of messages between this receipt and the newest position.
    ///
    /// ```
    /// use records::{Lag, ScopeReceipts};
    /// use wire::Position;
    /// let scope_receipts = ScopeReceipts { top: Some(Position::new(9, 5)), earlier: vec![Position::new(7, 42)], users: vec![] };
    /// assert_eq!(scope_receipts.lag(Position::new(9, 3)), Lag::Exactly(2));
    /// assert_eq!(scope_receipts.lag(Position::new(7, 40)), Lag::AtMost(7));
    /// assert_eq!(scope_receipts.lag(Position::new(6, 1)), Lag::Unknown);
    /// ```
    #[must_use]
    pub fn lag(&self, receipt: Position) -> Lag {
        let Some(top) = self.top.filter(|top| receipt <= *top) else { return Lag::Unknown };
        if receipt.generation == top.generation {
            return Lag::Exactly(top.offset - receipt.offset);
        }
        let Some(at) = self.listed(receipt) else { return Lag::Unknown };
        let since = self.earlier[at + 1..].iter().map(|last| last.offset).sum::<u64>();
        Lag::AtMost(self.earlier[at].offset - receipt.offset + since + top.offset)
    }

    /// Whether a user with this `receipt` has acknowledged `message`.
    #[must_use]
    pub fn acknowledged(&self, message: Position, receipt: Option<Position>) -> Acknowledged {
        let is_handed_out = self.top.is_some_and(|top| message <= top)
            && (self.top.is_some_and(|top| top.generation == message.generation) || self.listed(message).is_some());
        match receipt {
            // Within a generation positions are consecutive: a receipt at or after a message covers it.
            Some(receipt) if receipt.generation == message.generation && receipt >= message => Acknowledged::Yes,
            _ if !is_handed_out => Acknowledged::Unknown,
            Some(receipt) if receipt >= message => Acknowledged::Yes,
            Some(_) | None => Acknowledged::No,
        }
    }

    /// Index of the earlier generation that gave out this position.
    fn listed(&self, position: Position) -> Option<usize> {
        let handed_out = |last: &Position| last.generation == position.generation && last.offset >= position.offset;
        self.earlier.iter().position(handed_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(generation: u64, offset: u64) -> Position {
        Position::new(generation, offset)
    }

    /// Generation 7 ended at 42, generation 8 at 3; the newest position is 9-5.
    fn scope_receipts() -> ScopeReceipts {
        ScopeReceipts { top: Some(at(9, 5)), earlier: vec![at(7, 42), at(8, 3)], users: Vec::new() }
    }

    #[test]
    fn lag_is_exact_within_a_generation_and_a_bound_across() {
        let lag = |generation, offset| scope_receipts().lag(at(generation, offset));
        assert_eq!([lag(9, 5), lag(9, 0)], [Lag::Exactly(0), Lag::Exactly(5)]);
        assert_eq!([lag(8, 3), lag(7, 40)], [Lag::AtMost(5), Lag::AtMost(10)]);
        // Acknowledged in a history that Redis has lost, or never had.
        assert_eq!([lag(9, 6), lag(10, 1), lag(7, 43), lag(6, 1)], [Lag::Unknown; 4]);
        let unknown = ScopeReceipts { top: None, earlier: Vec::new(), users: Vec::new() };
        assert_eq!(unknown.lag(at(9, 5)), Lag::Unknown);
    }

    #[test]
    fn a_later_generation_proves_nothing_about_a_message_that_a_failover_lost() {
        let acknowledged = |message, receipt| scope_receipts().acknowledged(message, receipt);
        assert_eq!(acknowledged(at(9, 4), Some(at(9, 4))), Acknowledged::Yes);
        assert_eq!(
            [acknowledged(at(9, 5), Some(at(9, 4))), acknowledged(at(9, 5), None), acknowledged(at(7, 1), None)],
            [Acknowledged::No; 3]
        );
        assert_eq!(
            [acknowledged(at(7, 42), Some(at(9, 1))), acknowledged(at(8, 3), Some(at(9, 0)))],
            [Acknowledged::Yes; 2]
        );
        // 7-43 was given out by a primary that failed before it was replicated: a client in generation 9 may never have
        // received it.
        assert_eq!(
            [acknowledged(at(7, 43), Some(at(9, 1))), acknowledged(at(7, 43), None), acknowledged(at(9, 6), None)],
            [Acknowledged::Unknown; 3]
        );
        // A receipt of that generation at a later position proves that the client has received it.
        assert_eq!(acknowledged(at(7, 43), Some(at(7, 44))), Acknowledged::Yes);
        assert_eq!(acknowledged(at(8, 1), Some(at(7, 40))), Acknowledged::No);
    }
}
