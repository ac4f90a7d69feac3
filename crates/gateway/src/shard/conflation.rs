//! PURE. The newest message of each topic of one scope, for a client whose outbox is full.
//!
//! ```text
//!   arrived:  x1 y2 x3 z4 x5        kept:  y2 ·(3) z4 x5        sent:  gap 0..1, y2, gap 2..3, z4, x5
//! ```
//!
//! A replaced message leaves its place behind. So each gap is sent where the messages are missing, and no position runs
//! ahead of a message that is still to be sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;
use wire::{Position, Scope};

use crate::protocol::outgoing::Outgoing;

/// Most topics kept for one client in one scope. Beyond that, the topics that have been quiet for longest are dropped.
const TOPICS_MAX: usize = 1_024;

/// Bytes that listing a message costs in addition to its own.
const ENTRY_BYTES: usize = 128;

/// The kept messages of one client in one scope.
#[derive(Debug)]
pub(crate) struct Conflation {
    pub(crate) scope: Scope,
    /// Messages up to this position had been queued before.
    after: Position,
    /// By place, in order of arrival.
    kept: BTreeMap<u64, KeptMessage>,
    /// The place of each topic's newest message in `kept`.
    topics: HashMap<Bytes, u64>,
    /// The place that the next message gets.
    next: u64,
    /// Messages up to this position are missing after everything that is kept.
    missing: Option<Position>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptMessage {
    message: Outgoing,
    /// Messages up to this position are missing between the previous kept message and this one.
    missing: Option<Position>,
}

/// One step of sending the kept messages to the client.
#[derive(Debug)]
pub(crate) enum ConflatedItem {
    /// The messages after `after` up to `upto` are missing.
    Gap {
        after: Position,
        upto: Position,
    },
    Message(Outgoing),
}

impl Conflation {
    pub(crate) fn new(scope: Scope, after: Position) -> Self {
        let (kept, topics) = (BTreeMap::new(), HashMap::new());
        Self { scope, after, kept, topics, next: 0, missing: None, bytes: 0 }
    }

    /// Bytes of memory, if no other client shared its messages.
    pub(crate) fn cost(&self) -> u64 {
        self.bytes as u64
    }

    /// Keeps a message in place of the previous one of its topic. Returns how many kept messages were dropped.
    pub(crate) fn keep(&mut self, message: &Outgoing, bytes_max: usize) -> u64 {
        let place = self.next;
        self.next += 1;
        let topic = Bytes::copy_from_slice(message.topic().as_bytes());
        self.bytes += cost(message);
        self.kept.insert(place, KeptMessage { message: message.clone(), missing: self.missing.take() });
        let mut gone = 0;
        if let Some(old) = self.topics.insert(topic, place) {
            self.drop_kept(old);
            gone += 1;
        }
        while self.kept.len() > 1 && (self.bytes > bytes_max || self.kept.len() > TOPICS_MAX) {
            let oldest = self.kept.first_key_value().map_or(place, |(place, _)| *place);
            if let Some(kept) = self.kept.get(&oldest) {
                self.topics.remove(kept.message.topic().as_bytes());
            }
            self.drop_kept(oldest);
            gone += 1;
        }
        gone
    }

    /// Marks the messages up to `upto` that are not kept as missing.
    pub(crate) fn miss(&mut self, upto: Position) {
        self.missing = self.missing.max(Some(upto));
    }

    /// Drops the topics that the client no longer wants.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let unwanted: Vec<u64> =
            self.kept.iter().filter(|(_, kept)| !wanted(kept.message.topic())).map(|(place, _)| *place).collect();
        for place in unwanted {
            if let Some(kept) = self.kept.get(&place) {
                self.topics.remove(kept.message.topic().as_bytes());
            }
            self.drop_kept(place);
        }
    }

    /// Drops a kept message. Its position becomes part of a gap.
    fn drop_kept(&mut self, place: u64) {
        let Some(kept) = self.kept.remove(&place) else { return };
        self.bytes -= cost(&kept.message);
        let next = self.kept.range_mut(place..).next().map_or(&mut self.missing, |(_, next)| &mut next.missing);
        *next = (*next).max(kept.missing).max(kept.message.position());
    }

    /// The kept messages and gaps, in order.
    pub(crate) fn into_items(self) -> Vec<ConflatedItem> {
        let mut items = Vec::with_capacity(2 * self.kept.len());
        let mut after = self.after;
        let gap = |after: &mut Position, missing: Option<Position>, items: &mut Vec<ConflatedItem>| {
            if let Some(upto) = missing.filter(|upto| *upto > *after) {
                items.push(ConflatedItem::Gap { after: *after, upto });
                *after = upto;
            }
        };
        for kept in self.kept.into_values() {
            gap(&mut after, kept.missing, &mut items);
            after = after.max(kept.message.position().unwrap_or_default());
            items.push(ConflatedItem::Message(kept.message));
        }
        gap(&mut after, self.missing, &mut items);
        items
    }
}

fn cost(message: &Outgoing) -> usize {
    message.size() + 2 * message.topic().len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use wire::{Families, Message, Timestamp};

    use super::*;

    fn scope() -> Scope {
        Families::default().parse_scope("default/collection:42").unwrap()
    }

    fn message(topic: &str, offset: u64) -> Outgoing {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        let (message, position) = (Message::parse(br#"{"type":"t"}"#).unwrap(), Position::new(7, offset));
        Outgoing::new(&message, &scope(), topic, Timestamp(0), Some(position))
    }

    fn conflated(messages: &[(&str, u64)], bytes_max: usize) -> String {
        let mut conflation = Conflation::new(scope(), Position::new(7, 0));
        for (topic, offset) in messages {
            conflation.keep(&message(topic, *offset), bytes_max);
        }
        let item = |item: &ConflatedItem| match item {
            ConflatedItem::Gap { after, upto } => format!("{}..{}", after.offset, upto.offset),
            ConflatedItem::Message(message) => format!("{}{}", message.topic(), message.position().unwrap().offset),
        };
        conflation.into_items().iter().map(item).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_of_each_topic_is_kept_and_a_gap_stands_where_others_are_missing() {
        assert_eq!(conflated(&[("x", 1)], 9_999), "x1");
        assert_eq!(conflated(&[("x", 1), ("x", 2), ("x", 3)], 9_999), "0..2 x3");
        assert_eq!(conflated(&[("x", 1), ("y", 2), ("x", 3), ("z", 4), ("x", 5)], 9_999), "0..1 y2 2..3 z4 x5");
        assert_eq!(conflated(&[("x", 1), ("y", 2), ("y", 3), ("x", 9)], 9_999), "0..2 y3 x9");
    }

    #[test]
    fn what_does_not_fit_goes_from_the_quietest_topic() {
        assert_eq!(conflated(&[("x", 1), ("y", 2), ("z", 3)], 500), "0..1 y2 z3");
        assert_eq!(conflated(&[("x", 1), ("y", 2)], 0), "0..1 y2", "one is always kept");
    }
}
