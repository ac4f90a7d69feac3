//! PURE. One client that catches up in one scope. This happens between `subscribe` and the moment when its subscription
//! is live, and again when it has read too slowly to stay live.
//!
//! While history is read, live messages are buffered here. The router guarantees that no message it delivers after its
//! last page has a position at or before the end of that page. So the pages are sent, then the buffered messages after
//! them, and the subscription becomes live. Each message is sent once and in order.
//!
//! ```text
//!   subscribe ──▶ Reading ──last page──▶ (live)
//!                  ▲   │ no room            │ no room
//!   outbox empty ──┘   ▼                    │
//!                 Waiting ◀─────────────────┘
//! ```

use message_router::{Gap, Positions};
use wire::{Position, Scope};

use crate::protocol::outgoing::Outgoing;
use crate::session::Wanted;
use crate::shard::members::Slot;

/// Patterns of one connection in one scope that are not live.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) slot: Slot,
    pub(crate) scope: Scope,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) buffer: LiveBuffer,
    pub(crate) announced: Announced,
    pub(crate) stage: JoinStage,
    /// Whether the last request had a position. Its answer then has older messages, even if the pattern with that
    /// position has been removed in the meantime.
    pub(crate) asked_with_position: bool,
    /// Gaps that live subscriptions were sent while this join was announced and not live. Each gap is sent at its place
    /// among the messages.
    pub(crate) pending_gaps: Vec<Gap>,
}

/// What a join is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinStage {
    /// A page of history has been requested, and live messages are buffered.
    Reading,
    /// Nothing is requested or buffered until the client has read what is queued. The messages are in history.
    Waiting,
}

/// What the client has been sent about its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Nothing,
    /// A `subscribed` while the broker is unreachable. Another `subscribed` will follow.
    Degraded,
    Subscribed,
}

/// Buffered live messages. What does not fit is read from history instead.
#[derive(Debug, Default)]
pub(crate) struct LiveBuffer {
    pub(crate) messages: Vec<Outgoing>,
    bytes: usize,
    pub(crate) overflowed: bool,
}

/// Bytes that one join buffers at most. After an overflow the messages are read from history.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

impl LiveBuffer {
    fn add(&mut self, message: &Outgoing) {
        let bytes = message.size();
        if self.overflowed || self.bytes + bytes > BUFFER_BYTES_MAX {
            *self = Self { overflowed: true, ..Self::default() };
            return;
        }
        self.bytes += bytes;
        self.messages.push(message.clone());
    }

    /// The buffer to continue with while the next page is read: this one, or an empty one after an overflow.
    pub(crate) fn or_restart(self) -> Self {
        if self.overflowed { Self::default() } else { self }
    }
}

/// This many gaps are kept separately. Further ones extend the last.
const PENDING_GAPS_MAX: usize = 8;

impl Join {
    /// A join whose client has been told nothing, and which reads history.
    pub(crate) fn new(slot: Slot, scope: Scope, wanted: Vec<Wanted>) -> Self {
        Self {
            slot,
            scope,
            wanted,
            correlation_id: None,
            buffer: LiveBuffer::default(),
            announced: Announced::Nothing,
            stage: JoinStage::Reading,
            asked_with_position: false,
            pending_gaps: Vec::new(),
        }
    }

    /// Whether the client has been told that its subscriptions are active. From then on it gets every message or a gap.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced == Announced::Subscribed
    }

    /// The positions after which its history is read: those that the patterns resume from. A pattern without a position
    /// starts at the newest message.
    pub(crate) fn after(&self) -> Positions {
        self.wanted.iter().filter_map(|wanted| wanted.after).collect()
    }

    /// Whether older messages than the live ones are still to be delivered.
    pub(crate) fn reads_history(&self) -> bool {
        match self.stage {
            JoinStage::Reading => self.asked_with_position,
            JoinStage::Waiting => self.after().lowest().is_some(),
        }
    }

    /// Everything up to `position` has been queued, or reported as missing.
    pub(crate) fn move_to(&mut self, position: Position) {
        for wanted in &mut self.wanted {
            wanted.after = wanted.after.max(Some(position));
        }
    }

    /// Live subscriptions are sent a gap. The buffered messages lie before it and may have been lost since.
    pub(crate) fn break_off(&mut self, gap: Gap) {
        self.buffer = LiveBuffer::default();
        // The answer to a join that is not announced ends after the gap. An announced join must still deliver what lies
        // before the gap.
        if self.is_announced() {
            self.buffer.overflowed = self.stage == JoinStage::Reading;
            self.add_pending_gap(gap);
        }
    }

    fn add_pending_gap(&mut self, gap: Gap) {
        let is_full = self.pending_gaps.len() >= PENDING_GAPS_MAX;
        match self.pending_gaps.last_mut() {
            // The messages between the two gaps are not sent either.
            Some(last) if is_full => *last = Gap { upto: gap.upto, certain: true, ..*last },
            _ => self.pending_gaps.push(gap),
        }
    }

    /// Whether a message matches one of the patterns and lies after that pattern's position.
    pub(crate) fn wants(&self, topic: &str, position: Option<Position>) -> bool {
        let behind = |wanted: &Wanted| match (position, wanted.after) {
            (Some(position), Some(after)) => position > after,
            _ => true,
        };
        self.wanted.iter().any(|wanted| wanted.filter.matches(topic) && behind(wanted))
    }

    /// Whether the join takes a message without a position. Such a message cannot be read from history later, so it is
    /// delivered at once if the subscription has been announced.
    pub(crate) fn takes_local(&self, topic: &str) -> bool {
        self.announced != Announced::Nothing && self.wants(topic, None)
    }

    /// A live message of the scope has arrived. It is buffered whatever position was asked for. That position may
    /// belong to a history that Redis has lost, and the subscription then continues before it.
    pub(crate) fn receive(&mut self, message: &Outgoing) {
        if self.wanted.iter().any(|wanted| wanted.filter.matches(message.topic())) {
            self.buffer.add(message);
        }
    }
}
