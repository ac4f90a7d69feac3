//! Hands connections to shards, and messages to interested shards.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use bytes::Bytes;
use connection_registry::{PresenceCursor, RegistrationNumber, RestoreRequest, RestoreResult, SessionClose};
use message_router::{BrokerError, Gap, Joiner, Positions, ShardIndex, Start, Stored};
use smallvec::SmallVec;
use wire::{AckLevel, Channel, Encoded, ErrorCode, Position, Scope, ServerFrame, SessionId, UserId};

use crate::counters::ShardCounters;
use crate::handoff::Handoff;
use crate::hub::members::Slot;
use crate::hub::shard::{Listing, PresenceList};
use crate::mailbox::Mailbox;

mod arrivals;
pub(crate) mod conflation;
pub(crate) mod delivery_confirmation;
mod departures;
pub(crate) mod join;
pub(crate) mod members;
pub(crate) mod registrations;
mod reservation;
pub(crate) mod shard;
pub(crate) mod wheel;
pub(crate) mod worker;

pub(crate) use departures::Departures;
pub(crate) use reservation::Reservation;

/// Clients of an instance that begins anew are asked to come back elsewhere spread over this time.
pub(crate) const SPREAD: Duration = Duration::from_secs(5);

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
    Joined(Joiner, Box<CatchUpPage>),
    /// Messages may be missing.
    Gap(Scope, Gap),
    /// The broker is back, and messages of this scope have travelled within this instance alone.
    Isolated(Scope),
    /// The broker is lost, or back.
    Degraded(bool),
    /// The answer to [`FromShard::Publish`].
    Published(ReplyTo, Box<PublishReply>),
    /// Who is in a scope, for those who wait for it.
    PresenceListed(Arc<PresenceList>),
    /// Somebody has joined a scope or left it.
    PresenceChanged(Scope, PresenceCursor, Encoded),
    /// Of those who joined or left, some may not have been told: lists are to be asked for anew.
    ResyncPresence,
    /// Too much waits for slow clients of all shards, and this one has the most.
    Evict,
    /// Tell so many more to come back elsewhere, close them, and take nobody in.
    Drain(Departures),
    /// Cut whoever has not closed yet: the drain's time is up.
    DisconnectAll,
    /// Send so many to emptier instances, but nobody who has been here for less than this.
    Rebalance(Departures, Duration),
    /// Close a session's connection with this number, and those before it, if they are still here.
    CloseSession(SessionClose, RegistrationNumber),
    /// Tell an operator of the connections here.
    List(Box<Listing>),
    /// What became of a connection's question for its session's record.
    Restored(Box<(RestoreRequest, RestoreResult)>),
    /// Send a session a notice, if it is still here.
    Notice(SessionId, Encoded),
    /// End the thread.
    Stop,
}

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

/// The word on a publish.
#[derive(Debug)]
pub(crate) struct PublishReply {
    pub(crate) channel: Channel,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) outcome: PublishOutcome,
}

/// What has become of a publish.
#[derive(Debug)]
pub(crate) enum PublishOutcome {
    /// The broker has taken it.
    Stored {
        stored: Stored,
        /// Whether the channel's family keeps what is published.
        is_kept: bool,
    },
    /// Only the members on this instance get it.
    Local {
        /// They had got it before, under the same id.
        duplicate: bool,
    },
    /// The broker has not taken it, or nobody knows.
    Failed(BrokerError),
    /// The broker is away, and it may not be delivered here alone.
    Refused(&'static str),
}

/// When to send again what was refused because the broker is away: it is asked for about as often.
const RETRY_AFTER_MS: u64 = 1_000;

impl PublishReply {
    /// As the publisher gets it.
    pub(crate) fn encode(&self) -> Encoded {
        let channel = self.channel.to_string();
        let correlation_id = self.correlation_id.as_deref();
        let (code, message, retry_after_ms) = match &self.outcome {
            PublishOutcome::Stored { stored, is_kept } => {
                let level = match (is_kept, stored.replicated) {
                    (true, true) => AckLevel::Replicated,
                    (true, false) => AckLevel::Durable,
                    (false, _) => AckLevel::Published,
                };
                let (position, duplicate) = (Some(stored.position), stored.duplicate);
                let channel = &*channel;
                return ServerFrame::Ack { channel, position, level, duplicate, correlation_id }.encode();
            }
            PublishOutcome::Local { duplicate } => {
                let (channel, level) = (&*channel, AckLevel::Local);
                return ServerFrame::Ack { channel, position: None, level, duplicate: *duplicate, correlation_id }
                    .encode();
            }
            // What exactly ails the broker is the operator's to know, not the client's.
            PublishOutcome::Failed(BrokerError::Unavailable(_)) => {
                (ErrorCode::Unavailable, "the gateway cannot take messages now; nothing was stored", None)
            }
            PublishOutcome::Failed(BrokerError::Unknown) => (
                ErrorCode::Unknown,
                "no answer came in time: the message may or may not have been stored; publish it again under the same \
                 id, and it is stored once",
                None,
            ),
            PublishOutcome::Failed(BrokerError::Wrong(_)) => {
                (ErrorCode::Internal, "the broker did not understand the gateway; nothing was stored", None)
            }
            PublishOutcome::Refused(why) => (ErrorCode::Unavailable, *why, Some(RETRY_AFTER_MS)),
        };
        let channel = Some(&*channel);
        ServerFrame::Error { code, message, channel, retry_after_ms, correlation_id }.encode()
    }
}

/// Who awaits an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyTo {
    pub(crate) shard: ShardIndex,
    pub(crate) slot: Slot,
    /// The connection's own number: its slot may have another tenant by now.
    pub(crate) number: u64,
}

/// What a shard asks of the pump.
#[derive(Debug)]
pub(crate) enum FromShard {
    /// Somebody here wants this scope from `after` on.
    Join { joiner: Joiner, scope: Scope, after: Positions },
    /// Nobody here wants it any more.
    Leave { scope: Scope },
    /// A client publishes.
    Publish {
        from: ReplyTo,
        user: UserId,
        channel: Channel,
        id: Option<Box<str>>,
        message: Vec<u8>,
        correlation_id: Option<Box<str>>,
    },
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
        assert!((1..=ShardIndex::COUNT_MAX).contains(&shards.len()), "checked with the configuration");
        Self { shards: shards.into() }
    }

    /// Counts one more connection, on the shard with the fewest.
    pub(crate) fn reserve(&self) -> Reservation {
        // Counted here, so that a burst of upgrades spreads before the shards have seen any of it.
        let least = self.indexes().min_by_key(|index| self.shard(*index).counters.connections.get());
        let least = least.expect("there are shards");
        let reservation = Reservation::on(least, &self.shard(least).counters);
        // With the one of `look_for_reservations`: who reserves and then sees the instance running is seen by its drain.
        fence(Ordering::SeqCst);
        reservation
    }

    /// To be called by who has said that nobody is taken in any more, before it counts who is left.
    pub(crate) fn look_for_reservations(&self) {
        fence(Ordering::SeqCst);
    }

    /// Gives a new connection to the shard that it is counted on.
    pub(crate) fn place(&self, handoff: Handoff) {
        self.shard(handoff.reservation.shard()).inbox.push(ToShard::Adopt(Box::new(handoff)), 0);
    }

    /// Takes clients from the shards with the most, as many from each as if one after the other was asked.
    pub(crate) fn rebalance(&self, count: u64, spare: Duration, within: Duration) {
        let mut left: Vec<u64> = self.shards().map(|shard| shard.counters.connections.get()).collect();
        let before = left.clone();
        for _ in 0..count {
            let most = left.iter_mut().max().expect("there are shards");
            *most = most.saturating_sub(1);
        }
        let mut departures = Departures::spread(count as usize, within);
        for (shard, (before, left)) in self.shards().zip(before.iter().zip(&left)) {
            let some = departures.split((before - left) as usize);
            shard.inbox.push(ToShard::Rebalance(some, spare), 0);
        }
    }

    /// How many clients have been sent to emptier instances.
    pub(crate) fn rebalanced(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.rebalanced.get()).sum()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.connections.get()).sum()
    }

    /// What waits for slow clients.
    pub(crate) fn backlog(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.backlog.get()).sum()
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
