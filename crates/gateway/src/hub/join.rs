//! PURE. A client catching up in one scope, between `subscribe` and the moment its subscription is live.
//!
//! While history is read, live messages are held here. The router promises that nothing it hands over after its
//! last page stands at or before that page's end: so the pages are sent, then what was held behind them, and the
//! subscription is live, each message having come once and in order.

use wire::{Position, Scope};

use crate::hub::Outgoing;
use crate::hub::members::Slot;
use crate::session::Wanted;

/// Patterns of one connection in one scope that are not live yet.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) slot: Slot,
    pub(crate) scope: Scope,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) held: Held,
    pub(crate) announced: Announced,
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
pub(crate) struct Held {
    pub(crate) messages: Vec<Outgoing>,
    bytes: usize,
    pub(crate) overflowed: bool,
}

/// What one joiner holds at most. More than this is read again: the history has it.
const HELD_BYTES_MAX: usize = 256 * 1024;

impl Held {
    fn hold(&mut self, message: &Outgoing) {
        let bytes = message.frame.bytes().len();
        if self.overflowed || self.bytes + bytes > HELD_BYTES_MAX {
            *self = Self { overflowed: true, ..Self::default() };
            return;
        }
        self.bytes += bytes;
        self.messages.push(message.clone());
    }

    /// What to go on holding while the next page is read: all of it, or afresh after an overflow.
    pub(crate) fn or_afresh(self) -> Self {
        if self.overflowed { Self::default() } else { self }
    }
}

impl Join {
    /// Whether a message passes one of the patterns, and is behind the position that pattern asked for.
    pub(crate) fn wants(&self, topic: &str, position: Option<Position>) -> bool {
        let behind = |wanted: &Wanted| match (position, wanted.after) {
            (Some(position), Some(after)) => position > after,
            _ => true,
        };
        self.wanted.iter().any(|wanted| wanted.filter.matches(topic) && behind(wanted))
    }

    /// A live message of the scope has come.
    pub(crate) fn hear(&mut self, message: &Outgoing) {
        if self.wants(message.topic(), message.position) {
            self.held.hold(message);
        }
    }
}
