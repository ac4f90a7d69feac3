//! Messages of clients that have begun and not ended: how long each may take, and how many bytes all may hold.
//!
//! A message that arrives in one read is never listed here. So the list is short, except under attack.

use hashbrown::HashMap;

use crate::shard::members::Slot;
use crate::transport::websocket::codec::Unfinished;

/// The unfinished messages of one shard.
#[derive(Debug)]
pub(super) struct UnfinishedMessages {
    by_slot: HashMap<Slot, Begun>,
    /// Sum of the bytes of all.
    bytes: usize,
    bytes_max: usize,
    timeout_ms: u64,
}

/// One unfinished message.
#[derive(Debug, Clone, Copy)]
struct Begun {
    message: Unfinished,
    since_ms: u64,
}

impl UnfinishedMessages {
    /// All together hold `bytes_max`. Each takes at most `timeout_ms` from its first byte to its last.
    pub(super) fn new(bytes_max: usize, timeout_ms: u64) -> Self {
        Self { by_slot: HashMap::new(), bytes: 0, bytes_max, timeout_ms }
    }

    /// Notes what is unfinished on a connection after a read.
    pub(super) fn note(&mut self, slot: Slot, unfinished: Option<Unfinished>, now_ms: u64) {
        let Some(message) = unfinished else { return self.remove(slot) };
        let before = self.by_slot.get(&slot).copied();
        let since_ms = before.filter(|b| b.message.number == message.number).map_or(now_ms, |before| before.since_ms);
        self.bytes = self.bytes + message.bytes - before.map_or(0, |before| before.message.bytes);
        self.by_slot.insert(slot, Begun { message, since_ms });
    }

    /// The connection has nothing unfinished, or has ended.
    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(begun) = self.by_slot.remove(&slot) {
            self.bytes -= begun.message.bytes;
        }
    }

    /// Takes the messages that began first, until the rest holds seven eighths of the limit. An honest message ends
    /// within moments, so it is among the last. A single message is never taken: its own limit applies.
    pub(super) fn take_excess(&mut self) -> Vec<Slot> {
        if self.bytes <= self.bytes_max {
            return Vec::new();
        }
        let mut oldest: Vec<_> = self.by_slot.iter().map(|(slot, begun)| (begun.since_ms, *slot)).collect();
        oldest.sort_unstable();
        oldest.pop();
        let mut taken = Vec::new();
        for (_, slot) in oldest {
            if self.bytes <= self.bytes_max / 8 * 7 {
                break;
            }
            self.remove(slot);
            taken.push(slot);
        }
        taken
    }

    /// Takes the messages whose time is over.
    pub(super) fn take_overdue(&mut self, now_ms: u64) -> Vec<Slot> {
        let is_over = |begun: &Begun| now_ms >= begun.since_ms + self.timeout_ms;
        let taken: Vec<Slot> = self.by_slot.iter().filter(|(_, begun)| is_over(begun)).map(|(slot, _)| *slot).collect();
        taken.iter().for_each(|slot| self.remove(*slot));
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shrinks the table after an attack.
    pub(super) fn shrink(&mut self) {
        self.by_slot.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished(number: u32, bytes: usize) -> Option<Unfinished> {
        Some(Unfinished { number, bytes })
    }

    #[test]
    fn the_time_runs_from_the_first_byte_of_each_message() {
        let mut messages = UnfinishedMessages::new(1_000, 30);
        messages.note(1, unfinished(0, 1), 100);
        messages.note(2, unfinished(0, 1), 110);
        // More of the same message, and another message.
        messages.note(1, unfinished(0, 500), 129);
        messages.note(2, unfinished(1, 1), 129);
        assert_eq!(messages.take_overdue(129), Vec::<Slot>::new());
        assert_eq!(messages.take_overdue(130), [1]);
        assert_eq!((messages.take_overdue(158), messages.bytes()), (vec![], 1));
        messages.note(2, None, 158);
        assert_eq!((messages.take_overdue(1_000), messages.bytes()), (vec![], 0));
    }

    #[test]
    fn above_the_limit_the_oldest_go() {
        let mut messages = UnfinishedMessages::new(800, 30);
        for (slot, began) in [(5, 10), (6, 11), (7, 9), (8, 12)] {
            messages.note(slot, unfinished(0, 200), began);
        }
        assert_eq!(messages.take_excess(), Vec::<Slot>::new());
        messages.note(9, unfinished(0, 100), 13);
        assert_eq!(messages.take_excess(), [7], "700 bytes are left");
        messages.note(9, unfinished(0, 900), 13);
        assert_eq!(messages.take_excess(), [5, 6, 8], "all but the newest");
        assert_eq!((messages.take_excess(), messages.bytes()), (vec![], 900));
    }
}
