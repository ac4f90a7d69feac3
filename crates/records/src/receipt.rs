//! How far a user has got in a scope, and what follows from it.

use wire::{Position, Scope, Timestamp, UserId};

/// A user has dealt with everything up to here: of one scope, on the device that is furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Where.
    pub scope: Scope,
    /// Who; the tenant is the scope's.
    pub user: UserId,
    /// How far.
    pub position: Position,
}

/// What is known of one scope's receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeReceipts {
    /// The newest position that the scope has handed out; absent if it has not begun, or has been forgotten.
    pub top: Option<Position>,
    /// Earlier generations still known, oldest first, each with the newest offset it handed out.
    pub earlier: Vec<Position>,
    /// Who has got how far, and when that last moved.
    pub users: Vec<(UserId, Position, Timestamp)>,
}

/// How many messages lie between a receipt and the scope's top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lag {
    /// So many.
    Exactly(u64),
    /// So many positions were handed out since, over a failover: some of them may have been lost with it.
    AtMost(u64),
    /// The generation of the receipt is not known any more, or not to this Redis.
    Unknown,
}

/// Whether a user has got a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// Acknowledged.
    Yes,
    /// Not acknowledged, or not yet.
    No,
    /// Redis does not know the position: it was never handed out, or was lost in a failover.
    Unknown,
}

impl ScopeReceipts {
    /// How far behind a receipt is.
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

    /// Whether who acknowledged `receipt` has got `message`.
    #[must_use]
    pub fn acknowledged(&self, message: Position, receipt: Option<Position>) -> Acknowledged {
        let is_handed_out = self.top.is_some_and(|top| message <= top)
            && (self.top.is_some_and(|top| top.generation == message.generation) || self.listed(message).is_some());
        match receipt {
            // Within a generation positions are consecutive: whoever stands at or behind it has passed it.
            Some(receipt) if receipt.generation == message.generation && receipt >= message => Acknowledged::Yes,
            _ if !is_handed_out => Acknowledged::Unknown,
            Some(receipt) if receipt >= message => Acknowledged::Yes,
            Some(_) | None => Acknowledged::No,
        }
    }

    /// Which earlier generation handed this position out.
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

    /// Generation 7 ended at 42, generation 8 at 3; the scope stands at 9-5.
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
        // 7-43 was acknowledged by a primary that died with it: those who are in generation 9 may never have seen it.
        assert_eq!(
            [acknowledged(at(7, 43), Some(at(9, 1))), acknowledged(at(7, 43), None), acknowledged(at(9, 6), None)],
            [Acknowledged::Unknown; 3]
        );
        // But who acknowledged that very generation beyond it has.
        assert_eq!(acknowledged(at(7, 43), Some(at(7, 44))), Acknowledged::Yes);
        assert_eq!(acknowledged(at(8, 1), Some(at(7, 40))), Acknowledged::No);
    }
}
