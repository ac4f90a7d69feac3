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
pub struct Standing {
    /// The newest position that the scope has handed out; absent if it has not begun, or has been forgotten.
    pub top: Option<Position>,
    /// Earlier generations still known, oldest first, each with the newest offset it handed out.
    pub earlier: Vec<Position>,
    /// Who has got how far, and when that last moved.
    pub users: Vec<(UserId, Position, Timestamp)>,
}

/// How many messages lie between a receipt and the scope's top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behind {
    /// So many.
    Exactly(u64),
    /// So many positions were handed out since, over a failover: some of them may have been lost with it.
    AtMost(u64),
    /// The generation of the receipt is not known any more, or not to this Redis.
    Unknown,
}

/// Whether a user has got a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// Acknowledged.
    Yes,
    /// Not acknowledged, or not yet.
    No,
    /// Redis does not know the position: it was never handed out, or was lost in a failover.
    Unknown,
}

impl Standing {
    /// How far behind a receipt is.
    ///
    /// ```
    /// use records::{Behind, Standing};
    /// use wire::Position;
    /// let standing = Standing { top: Some(Position::new(9, 5)), earlier: vec![Position::new(7, 42)], users: vec![] };
    /// assert_eq!(standing.behind(Position::new(9, 3)), Behind::Exactly(2));
    /// assert_eq!(standing.behind(Position::new(7, 40)), Behind::AtMost(7));
    /// assert_eq!(standing.behind(Position::new(6, 1)), Behind::Unknown);
    /// ```
    #[must_use]
    pub fn behind(&self, receipt: Position) -> Behind {
        let Some(top) = self.top.filter(|top| receipt <= *top) else { return Behind::Unknown };
        if receipt.generation == top.generation {
            return Behind::Exactly(top.offset - receipt.offset);
        }
        let Some(at) = self.listed(receipt) else { return Behind::Unknown };
        let since = self.earlier[at + 1..].iter().map(|last| last.offset).sum::<u64>();
        Behind::AtMost(self.earlier[at].offset - receipt.offset + since + top.offset)
    }

    /// Whether who acknowledged `receipt` has got `message`.
    #[must_use]
    pub fn got(&self, message: Position, receipt: Option<Position>) -> Got {
        let is_handed_out = self.top.is_some_and(|top| message <= top)
            && (self.top.is_some_and(|top| top.generation == message.generation) || self.listed(message).is_some());
        match receipt {
            // Within a generation positions are consecutive: whoever stands at or behind it has passed it.
            Some(receipt) if receipt.generation == message.generation && receipt >= message => Got::Yes,
            _ if !is_handed_out => Got::Unknown,
            Some(receipt) if receipt >= message => Got::Yes,
            Some(_) | None => Got::No,
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
    fn standing() -> Standing {
        Standing { top: Some(at(9, 5)), earlier: vec![at(7, 42), at(8, 3)], users: Vec::new() }
    }

    #[test]
    fn lag_is_exact_within_a_generation_and_a_bound_across() {
        let behind = |generation, offset| standing().behind(at(generation, offset));
        assert_eq!([behind(9, 5), behind(9, 0)], [Behind::Exactly(0), Behind::Exactly(5)]);
        assert_eq!([behind(8, 3), behind(7, 40)], [Behind::AtMost(5), Behind::AtMost(10)]);
        // Acknowledged in a history that Redis has lost, or never had.
        assert_eq!([behind(9, 6), behind(10, 1), behind(7, 43), behind(6, 1)], [Behind::Unknown; 4]);
        let unknown = Standing { top: None, earlier: Vec::new(), users: Vec::new() };
        assert_eq!(unknown.behind(at(9, 5)), Behind::Unknown);
    }

    #[test]
    fn a_later_generation_proves_nothing_about_a_message_that_a_failover_lost() {
        let got = |message, receipt| standing().got(message, receipt);
        assert_eq!(got(at(9, 4), Some(at(9, 4))), Got::Yes);
        assert_eq!([got(at(9, 5), Some(at(9, 4))), got(at(9, 5), None), got(at(7, 1), None)], [Got::No; 3]);
        assert_eq!([got(at(7, 42), Some(at(9, 1))), got(at(8, 3), Some(at(9, 0)))], [Got::Yes; 2]);
        // 7-43 was acknowledged by a primary that died with it: those who are in generation 9 may never have seen it.
        assert_eq!([got(at(7, 43), Some(at(9, 1))), got(at(7, 43), None), got(at(9, 6), None)], [Got::Unknown; 3]);
        // But who acknowledged that very generation beyond it has.
        assert_eq!(got(at(7, 43), Some(at(7, 44))), Got::Yes);
        assert_eq!(got(at(8, 1), Some(at(7, 40))), Got::No);
    }
}
