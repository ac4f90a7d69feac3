//! One Redis stream. Its entries are grouped in leaves, because approximate trimming removes whole leaves.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::Position;

/// One message in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id of the entry.
    pub position: Position,
    /// Time of storing by Redis' clock, in ms.
    pub time_ms: u64,
    /// Topic within the scope.
    pub topic: Box<str>,
    /// The message as bytes.
    pub message: Bytes,
}

/// The value of a stream key.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    leaves: VecDeque<Leaf>,
    len: usize,
    /// The id that the next one must exceed. It stays when its entry is removed.
    last: Position,
}

#[derive(Debug, Clone)]
struct Leaf {
    entries: VecDeque<Entry>,
    /// Number of entries that the leaf ever had: Redis counts deleted ones until the whole leaf is removed.
    ever: usize,
}

/// How XADD trims the stream that it adds to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trim {
    /// `MAXLEN = N`
    Exactly(usize),
    /// `MAXLEN ~ N`
    About(usize),
}

impl Trim {
    pub(crate) fn apply(self, stream: &mut Stream) {
        match self {
            Self::Exactly(entries_max) => stream.keep_exactly(entries_max),
            Self::About(entries_max) => stream.keep_about(entries_max),
        }
    }
}

impl Stream {
    /// The newest id given out.
    #[must_use]
    pub fn last(&self) -> Position {
        self.last
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries after `after`, oldest first.
    pub fn behind(&self, after: Position) -> impl Iterator<Item = &Entry> {
        let first = self.leaves.partition_point(|leaf| leaf.entries.back().is_none_or(|e| e.position <= after));
        self.leaves.range(first..).flat_map(|leaf| &leaf.entries).filter(move |entry| entry.position > after)
    }

    /// The entry at this position.
    #[must_use]
    pub fn find(&self, position: Position) -> Option<&Entry> {
        let leaf = self.leaves.partition_point(|leaf| leaf.entries.back().is_none_or(|e| e.position < position));
        let entries = &self.leaves.get(leaf)?.entries;
        entries.binary_search_by_key(&position, |entry| entry.position).ok().map(|at| &entries[at])
    }

    /// XADD. Returns false if the id is not above the last one, which Redis refuses.
    pub(crate) fn add(&mut self, entry: Entry, leaf_entries_max: usize) -> bool {
        if entry.position <= self.last {
            return false;
        }
        self.last = entry.position;
        self.len += 1;
        match self.leaves.back_mut() {
            Some(leaf) if leaf.ever < leaf_entries_max => {
                leaf.ever += 1;
                leaf.entries.push_back(entry);
            }
            _ => self.leaves.push_back(Leaf { entries: VecDeque::from([entry]), ever: 1 }),
        }
        true
    }

    /// MAXLEN =: removes the oldest entries until this many remain.
    pub(crate) fn keep_exactly(&mut self, entries_max: usize) {
        while let Some(leaf) = self.leaves.front_mut().filter(|_| self.len > entries_max) {
            let gone = leaf.entries.len().min(self.len - entries_max);
            leaf.entries.drain(..gone);
            self.len -= gone;
            if leaf.entries.is_empty() {
                self.leaves.pop_front();
            }
        }
    }

    /// MAXLEN ~: removes whole leaves while enough entries remain.
    pub(crate) fn keep_about(&mut self, entries_max: usize) {
        while let Some(leaf) = self.leaves.front() {
            if self.len <= entries_max || self.len - leaf.entries.len() < entries_max {
                return;
            }
            self.len -= leaf.entries.len();
            self.leaves.pop_front();
        }
    }

    /// MINID: removes all entries below `position`.
    pub(crate) fn drop_below(&mut self, position: Position) {
        while let Some(leaf) = self.leaves.front_mut() {
            let before = leaf.entries.len();
            let gone = leaf.entries.partition_point(|entry| entry.position < position);
            leaf.entries.drain(..gone);
            self.len -= gone;
            if gone < before {
                return;
            }
            self.leaves.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(entries: u64) -> Stream {
        let mut stream = Stream::default();
        for offset in 1..=entries {
            let position = Position::new(7, offset);
            assert!(stream.add(Entry { position, time_ms: 0, topic: "".into(), message: Bytes::new() }, 4));
        }
        stream
    }

    #[test]
    fn approximate_trimming_keeps_the_limit_and_less_than_a_leaf_more() {
        let mut stream = stream(11);
        stream.keep_about(5);
        assert_eq!(stream.len(), 7, "one leaf of four went; without the next, three would be left");
        assert_eq!(stream.behind(Position::default()).count(), 7);
    }

    #[test]
    fn exact_trimming_keeps_the_newest_entries() {
        let mut stream = stream(11);
        stream.keep_exactly(5);
        assert_eq!((stream.len(), stream.leaves.len()), (5, 2), "one leaf of four is removed, and half of the next");
        assert_eq!(stream.behind(Position::default()).next().map(|entry| entry.position.offset), Some(7));
        stream.keep_exactly(5);
        assert_eq!(stream.len(), 5);
        stream.keep_exactly(0);
        assert!(stream.is_empty() && stream.leaves.is_empty());
    }

    #[test]
    fn a_leaf_counts_its_deleted_entries() {
        let mut stream = stream(3);
        stream.drop_below(Position::new(7, 3));
        let entry =
            |offset| Entry { position: Position::new(7, offset), time_ms: 0, topic: "".into(), message: Bytes::new() };
        assert!(stream.add(entry(4), 4));
        assert!(stream.add(entry(5), 4));
        assert_eq!((stream.len(), stream.leaves.len()), (3, 2));
        assert!(!stream.add(entry(5), 4), "ids only rise");
        assert_eq!(stream.behind(Position::new(7, 3)).count(), 2);
    }
}
