//! Whether a history continues a position without a hole.

use std::ops::Deref;
use std::sync::Arc;

use wire::{GapReason, Position};

use crate::broker::{Entry, History};

/// A part of the messages that one read returned. All receivers of that read share its memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    read: Option<Arc<[Entry]>>,
    begin: usize,
    count: usize,
}

impl Entries {
    pub(crate) fn new(read: &Arc<[Entry]>, begin: usize, count: usize) -> Self {
        assert!(begin + count <= read.len(), "a part is no more than the whole");
        Self { read: Some(Arc::clone(read)), begin, count }
    }

    /// All messages of the read, and the index at which this part begins. For code that processes a read once for all
    /// receivers.
    #[must_use]
    pub fn read(&self) -> Option<(&Arc<[Entry]>, usize)> {
        self.read.as_ref().map(|read| (read, self.begin))
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.read.as_ref().map_or(&[], |read| &read[self.begin..self.begin + self.count])
    }
}

/// Messages that may be missing, and the position at which a subscription continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last position that is known to be delivered, if any.
    pub after: Option<Position>,
    /// Delivery continues after this position.
    pub upto: Position,
    /// The reason for the gap.
    pub reason: GapReason,
    /// True if messages are missing, false if they may be.
    pub certain: bool,
}

impl Gap {
    /// Messages that retention removed are certainly missing, because their positions are known. After a failover that
    /// cannot be known.
    pub(crate) fn new(after: Option<Position>, upto: Position, reason: GapReason) -> Self {
        let certain = matches!(reason, GapReason::Expired | GapReason::NoHistory);
        Self { after, upto, reason, certain }
    }
}

/// Whether `history`, read above `after`, has everything that was published above `after`: up to its last entry or,
/// without `more`, up to its top.
///
/// A position of an earlier generation is continued by the rest of that generation up to its listed top, and then by
/// every later generation from offset 1. Redis knows of no other messages.
///
/// # Errors
/// Returns why there is a hole, or why it cannot be decided.
///
/// ```
/// use message_router::{History, judge};
/// use wire::{GapReason, Position};
/// let history = History { top: Position::new(7, 4), earlier: vec![(5, 9)], torn: vec![], entries: vec![], more: false };
/// assert_eq!(judge(Position::new(7, 4), &history), Ok(()));
/// assert_eq!(judge(Position::new(7, 3), &history), Err(GapReason::Expired));
/// assert_eq!(judge(Position::new(7, 5), &history), Err(GapReason::UnknownPosition));
/// assert_eq!(judge(Position::new(5, 10), &history), Err(GapReason::Failover));
/// // Generation 5 is known to have lost messages after 5-9:
/// let history = History { torn: vec![5], ..history };
/// assert_eq!(judge(Position::new(5, 9), &history), Err(GapReason::Failover));
/// ```
pub fn judge(after: Position, history: &History) -> Result<(), GapReason> {
    continues(after, history, &history.entries)
}

/// The same as [`judge`], with `entries` in place of the entries of `history`.
pub(crate) fn continues(after: Position, history: &History, entries: &[Entry]) -> Result<(), GapReason> {
    check_position(after, history)?;
    if history.torn.iter().any(|generation| *generation >= after.generation) {
        return Err(GapReason::Failover);
    }
    let mut seen = after;
    for entry in entries {
        if entry.position != over_ends(seen, history).next() {
            return Err(GapReason::Expired);
        }
        seen = entry.position;
    }
    if history.more {
        // A page without entries and with `more` makes no progress: the next request would be the same, for ever.
        return if entries.is_empty() { Err(GapReason::Unreadable) } else { Ok(()) };
    }
    if over_ends(seen, history) == history.top { Ok(()) } else { Err(GapReason::Expired) }
}

/// Whether `position` was given out by `history`, and its generation is still known.
pub(crate) fn check_position(position: Position, history: &History) -> Result<(), GapReason> {
    if position.generation == history.top.generation {
        return if position.offset <= history.top.offset { Ok(()) } else { Err(GapReason::UnknownPosition) };
    }
    match history.earlier.iter().find(|(generation, _)| *generation == position.generation) {
        Some((_, newest)) if position.offset <= *newest => Ok(()),
        // A former primary gave it out, and its last writes were lost in the failover.
        Some(_) => Err(GapReason::Failover),
        None => Err(GapReason::UnknownPosition),
    }
}

/// Returns `position`, or the beginning of the next generation if `position` is the end of its own. A generation
/// without messages ends at its beginning.
pub(crate) fn over_ends(mut position: Position, history: &History) -> Position {
    let own = position.generation;
    let mut generations = history.earlier.iter().skip_while(|(generation, _)| *generation != own).peekable();
    while let Some((_, newest)) = generations.next() {
        if position.offset != *newest {
            break;
        }
        let next = generations.peek().map_or(history.top.generation, |(generation, _)| *generation);
        position = Position::new(next, 0);
    }
    position
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::Timestamp;

    use super::*;
    use crate::broker::Entry;

    fn history(earlier: &[(u64, u64)], top: (u64, u64), entries: &[(u64, u64)], more: bool) -> History {
        let at = |(generation, offset): (u64, u64)| Position::new(generation, offset);
        let entry = |p: &(u64, u64)| Entry {
            position: at(*p),
            time: Timestamp(0),
            topic: Box::from(""),
            message: Bytes::from_static(b"{}"),
        };
        let entries = entries.iter().map(entry).collect();
        History { top: at(top), earlier: earlier.to_vec(), torn: vec![], entries, more }
    }

    #[test]
    fn a_range_continues_over_any_number_of_generations() {
        use GapReason::{Expired, Failover, UnknownPosition, Unreadable};
        let three = [(3, 5), (4, 0), (6, 2)];
        let rest: &[(u64, u64)] = &[(3, 5), (6, 1), (6, 2), (8, 1)];
        let cases = [
            ((8, 0), history(&[], (8, 0), &[], false), Ok(())),
            ((8, 1), history(&[], (8, 3), &[(8, 2), (8, 3)], false), Ok(())),
            // The first entry must follow directly, and the last one must reach the top.
            ((8, 1), history(&[], (8, 4), &[(8, 3), (8, 4)], false), Err(Expired)),
            ((8, 1), history(&[], (8, 4), &[(8, 2), (8, 3)], false), Err(Expired)),
            ((8, 1), history(&[], (8, 4), &[(8, 2), (8, 4)], false), Err(Expired)),
            ((8, 1), history(&[], (8, 4), &[(8, 2), (8, 3)], true), Ok(())),
            ((8, 1), history(&[], (8, 4), &[], true), Err(Unreadable)),
            // Over the ends of two generations, one of them without messages.
            ((3, 4), history(&three, (8, 1), rest, false), Ok(())),
            ((3, 5), history(&three, (8, 1), &rest[1..], false), Ok(())),
            ((3, 4), history(&three, (8, 1), &rest[1..], false), Err(Expired)),
            ((3, 5), history(&three, (8, 1), &rest[2..], false), Err(Expired)),
            ((3, 4), history(&three, (8, 1), &rest[..1], true), Ok(())),
            ((6, 2), history(&three, (8, 0), &[], false), Ok(())),
            // A former primary gave these out, and nobody has kept them.
            ((3, 6), history(&three, (8, 1), &rest[1..], false), Err(Failover)),
            ((4, 1), history(&three, (8, 1), &rest[1..], false), Err(Failover)),
            ((5, 1), history(&three, (8, 1), &rest[1..], false), Err(UnknownPosition)),
            ((9, 1), history(&three, (8, 1), &[], false), Err(UnknownPosition)),
            ((8, u64::MAX), history(&three, (8, 1), &[], false), Err(UnknownPosition)),
        ];
        for (after, history, expected) in &cases {
            let after = Position::new(after.0, after.1);
            assert_eq!(judge(after, history), *expected, "behind {after} of {history:?}");
        }
    }

    #[test]
    fn a_position_before_the_end_of_a_torn_generation_has_missed_something() {
        let whole = history(&[(3, 5), (6, 2)], (8, 1), &[(3, 5), (6, 1), (6, 2), (8, 1)], false);
        let torn = History { torn: vec![6], ..whole };
        let behind = |generation, offset| {
            let after = Position::new(generation, offset);
            let entries = torn.entries.iter().filter(|entry| entry.position > after).cloned().collect();
            judge(after, &History { entries, ..torn.clone() })
        };
        assert_eq!(behind(3, 4), Err(GapReason::Failover));
        assert_eq!(behind(6, 2), Err(GapReason::Failover), "it may have been lost after 6-2");
        assert_eq!(behind(8, 0), Ok(()));
        assert_eq!(behind(8, 1), Ok(()));
    }
}
