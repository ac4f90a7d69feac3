//! Messages on their way to clients.

use bytes::Bytes;
use message_router::{Gap, Start};
use smallvec::SmallVec;
use wire::{Encoded, Position};

/// Messages of one publish call; mostly one.
pub(crate) type Messages = SmallVec<[Outgoing; 1]>;

/// A message on its way out: its finished frame, and what decides who gets it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Absent for messages that never enter history: the broker was away, and they stay on this instance.
    pub(crate) position: Option<Position>,
    /// UTF-8, a slice of what Redis sent.
    topic: Bytes,
    pub(crate) frame: Encoded,
}

impl Outgoing {
    /// `topic` has been checked to be UTF-8.
    pub(crate) fn new(position: Option<Position>, topic: Bytes, frame: Encoded) -> Self {
        debug_assert!(std::str::from_utf8(&topic).is_ok(), "the envelope's parser has checked it");
        Self { position, topic, frame }
    }

    pub(crate) fn topic(&self) -> &str {
        std::str::from_utf8(&self.topic).unwrap_or_default()
    }
}

/// A page of history for one who catches up.
#[derive(Debug)]
pub(crate) struct CatchUpPage {
    pub(crate) start: Start,
    /// Of several positions, those that cannot be honoured while others can, or for another reason.
    pub(crate) lost: Vec<Gap>,
    pub(crate) messages: Vec<Outgoing>,
    /// How far the page goes; absent while degraded.
    pub(crate) upto: Option<Position>,
    /// Whether the history goes on behind `upto`.
    pub(crate) more: bool,
}
