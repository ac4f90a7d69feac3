//! PURE. A client catching up in one scope: between `subscribe` and the moment its subscription is live, and again
//! whenever it has read too slowly to stay live.
//!
//! While history is read, live messages are held here. The router promises that nothing it hands over after its
//! last page stands at or before that page's end: so the pages are sent, then what was held behind them, and the
//! subscription is live, each message having come once and in order.
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

/// Patterns of one connection in one scope that are not live yet.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) slot: Slot,
    pub(crate) scope: Scope,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) buffer: LiveBuffer,
    pub(crate) announced: Announced,
    pub(crate) stage: JoinStage,
    /// Its last question gave a position, and so the answer brings older messages, whoever has left meanwhile.
    pub(crate) asked_with_position: bool,
    /// What live subscriptions were told is missing, since these were announced and not live. Each is told at its
    /// place among the messages.
    pub(crate) pending_gaps: Vec<Gap>,
}

/// What a join does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinStage {
    /// A page of history has been asked for, and live messages are held.
    Reading,
    /// Nothing is asked for and nothing held until the client has read what is queued: the history has it.
    Waiting,
}

/// What the client has been told of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    Nothing,
    /// That it stands, but the broker cannot be asked now: another `subscribed` will follow.
    Degraded,
    Subscribed,
}

/// Live messages held back. What does not fit is read from history instead.
#[derive(Debug, Default)]
pub(crate) struct LiveBuffer {
    pub(crate) messages: Vec<Outgoing>,
    bytes: usize,
    pub(crate) overflowed: bool,
}

/// What one joiner holds at most. More than this is read again: the history has it.
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

    /// What to go on holding while the next page is read: all of it, or afresh after an overflow.
    pub(crate) fn or_restart(self) -> Self {
        if self.overflowed { Self::default() } else { self }
    }
}

/// So many gaps are owed one by one; further ones widen the last.
const PENDING_GAPS_MAX: usize = 8;

impl Join {
    /// Whether the client has been told that its subscriptions stand. From then on it is owed everything.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced == Announced::Subscribed
    }

    /// Behind which positions its history is to be read: those that the patterns resume from. One without a position
    /// starts now.
    pub(crate) fn after(&self) -> Positions {
        self.wanted.iter().filter_map(|wanted| wanted.after).collect()
    }

    /// Whether messages older than those that come now are yet to come.
    pub(crate) fn reads_history(&self) -> bool {
        match self.stage {
            JoinStage::Reading => self.asked_with_position,
            JoinStage::Waiting => self.after().lowest().is_some(),
        }
    }

    /// Everything up to `position` has been queued, or told to be missing.
    pub(crate) fn move_to(&mut self, position: Position) {
        for wanted in &mut self.wanted {
            wanted.after = wanted.after.max(Some(position));
        }
    }

    /// Live subscriptions are told of a gap. What was held stands before it, and may have been lost since.
    pub(crate) fn break_off(&mut self, gap: Gap) {
        self.buffer = LiveBuffer::default();
        // The answer of those who have none yet ends behind the gap. The others are owed what is before it.
        if self.is_announced() {
            self.buffer.overflowed = self.stage == JoinStage::Reading;
            self.add_pending_gap(gap);
        }
    }

    fn add_pending_gap(&mut self, gap: Gap) {
        let is_full = self.pending_gaps.len() >= PENDING_GAPS_MAX;
        match self.pending_gaps.last_mut() {
            // What lies between the two is not sent either.
            Some(last) if is_full => *last = Gap { upto: gap.upto, certain: true, ..*last },
            _ => self.pending_gaps.push(gap),
        }
    }

    /// Whether a message passes one of the patterns, and is behind the position that pattern asked for.
    pub(crate) fn wants(&self, topic: &str, position: Option<Position>) -> bool {
        let behind = |wanted: &Wanted| match (position, wanted.after) {
            (Some(position), Some(after)) => position > after,
            _ => true,
        };
        self.wanted.iter().any(|wanted| wanted.filter.matches(topic) && behind(wanted))
    }

    /// Whether a message without a position is for it: one that cannot be read from history later, and so is given
    /// at once to whoever knows that the subscription stands.
    pub(crate) fn takes_local(&self, topic: &str) -> bool {
        self.announced != Announced::Nothing && self.wants(topic, None)
    }

    /// A live message of the scope has come. It is held whatever position was asked for: that one may be on a branch
    /// which Redis has lost, and then the subscription goes on before it.
    pub(crate) fn receive(&mut self, message: &Outgoing) {
        if self.wanted.iter().any(|wanted| wanted.filter.matches(message.topic())) {
            self.buffer.add(message);
        }
    }
}
