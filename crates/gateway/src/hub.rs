//! Hands connections to shards, and messages to interested shards.

use std::sync::Arc;

use bytes::Bytes;
use message_router::{BrokerError, Gap, Joiner, ShardIndex, Start};
use smallvec::SmallVec;
use wire::{AckLevel, Channel, Encoded, ErrorCode, Position, Scope, ServerFrame};

use crate::counters::ShardCounters;
use crate::handoff::Handoff;
use crate::hub::members::Slot;
use crate::mailbox::Mailbox;

pub(crate) mod join;
pub(crate) mod members;
pub(crate) mod shard;
pub(crate) mod wheel;
pub(crate) mod worker;

/// What a shard is told, in the order in which it is told.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// A new connection.
    Adopt(Box<Handoff>),
    /// Messages of one scope for whoever wants them here.
    Deliver {
        scope: Scope,
        messages: Messages,
        /// By Redis' clock.
        published_ms: u64,
    },
    /// The answer to [`FromShard::Join`].
    Joined(Joiner, Box<Joined>),
    /// Messages may be missing.
    Gap(Scope, Gap),
    /// The broker is lost, or back.
    Degraded(bool),
    /// The answer to [`FromShard::Publish`].
    Published(Sender, Box<Answer>),
    /// Tell everybody to come back elsewhere, spread over this many milliseconds, and close.
    Drain { spread_ms: u64 },
    /// End the thread.
    Stop,
}

/// Messages of one publish call; mostly one.
pub(crate) type Messages = SmallVec<[Outgoing; 1]>;

/// A message on its way out: its finished frame, and what decides who gets it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Absent for messages that never enter history.
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
pub(crate) struct Joined {
    pub(crate) start: Start,
    pub(crate) messages: Vec<Outgoing>,
    /// How far the page goes; absent while degraded.
    pub(crate) upto: Option<Position>,
    /// Whether the history goes on behind `upto`.
    pub(crate) more: bool,
}

/// The broker's word on a publish.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) channel: Channel,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) result: Result<Position, BrokerError>,
    /// Whether the channel's family keeps what is published.
    pub(crate) is_kept: bool,
}

impl Answer {
    /// As the publisher gets it.
    pub(crate) fn encode(&self) -> Encoded {
        let channel = self.channel.to_string();
        let correlation_id = self.correlation_id.as_deref();
        match &self.result {
            Ok(position) => {
                let (channel, position) = (&*channel, Some(*position));
                let level = if self.is_kept { AckLevel::Durable } else { AckLevel::Published };
                ServerFrame::Ack { channel, position, level, correlation_id }.encode()
            }
            Err(error) => {
                // What exactly ails the broker is the operator's to know, not the client's.
                let (code, message) = match error {
                    BrokerError::Unavailable(_) => {
                        (ErrorCode::Unavailable, "the gateway cannot take messages now; nothing was stored")
                    }
                    BrokerError::Unknown => {
                        (ErrorCode::Unknown, "no answer came in time; the message may or may not have been stored")
                    }
                };
                let channel = Some(&*channel);
                ServerFrame::Error { code, message, channel, retry_after_ms: None, correlation_id }.encode()
            }
        }
    }
}

/// Who awaits an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) shard: ShardIndex,
    pub(crate) slot: Slot,
    /// The connection's own number: its slot may have another tenant by now.
    pub(crate) number: u64,
}

/// What a shard asks of the pump.
#[derive(Debug)]
pub(crate) enum FromShard {
    /// Somebody here wants this scope from `after` on.
    Join { joiner: Joiner, scope: Scope, after: Option<Position> },
    /// Nobody here wants it any more.
    Leave { scope: Scope },
    /// A client publishes.
    Publish { from: Sender, channel: Channel, message: Vec<u8>, correlation_id: Option<Box<str>> },
}

/// The way to every shard. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    shards: Arc<[ShardHandle]>,
}

/// One shard as seen from outside.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) inbox: Arc<Mailbox<ToShard>>,
    pub(crate) counters: Arc<ShardCounters>,
}

impl Hub {
    pub(crate) fn new(shards: Vec<ShardHandle>) -> Self {
        assert!(!shards.is_empty() && shards.len() <= 64, "1 to 64 shards: a set of them is one word");
        Self { shards: shards.into() }
    }

    /// Gives a new connection to the shard with the fewest.
    pub(crate) fn place(&self, handoff: Handoff) {
        let least = self.shards.iter().min_by_key(|shard| shard.counters.connections.get());
        let Some(shard) = least else { return };
        // Counted here, so that a burst of placements spreads before the shards have seen any of it.
        shard.counters.connections.add(1);
        shard.inbox.push(ToShard::Adopt(Box::new(handoff)), 0);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.connections.get()).sum()
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardHandle> {
        self.shards.iter()
    }

    pub(crate) fn shard(&self, index: ShardIndex) -> &ShardHandle {
        &self.shards[index.0 as usize]
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.shards.len()).map(|index| ShardIndex(index as u8))
    }
}
