//! What happens next: events in the order of virtual time, and of being scheduled where the time is the same.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use message_router::{Event, ShardIndex, Ticket};
use redis_model::{Connection, NodeIndex};
use wire::Scope;

use super::fault::Heal;
use super::registry::Member;
use crate::shard::requests::{FromShard, ToShard};

/// An instance in one of its lives: what is on its way to an earlier one arrives nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InstanceRun {
    pub(super) instance: usize,
    pub(super) number: u64,
}

/// A client's connection: a number that no other one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) client: usize,
    pub(super) number: u64,
}

/// One connection of an instance to Redis, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkNumber(pub(super) u64);

/// What comes to Redis.
#[derive(Debug)]
pub(super) enum RedisRequest {
    Subscribe(Connection, Scope),
    Unsubscribe(Connection, Scope),
    Call(Ticket, RedisCall),
}

#[derive(Debug)]
pub(super) enum RedisCall {
    Read { scope: Scope, after: Option<wire::Position>, entries_max: usize },
    Publish(message_router::Publish),
    Tops(Vec<Scope>),
    Lost(Scope, wire::Position),
}

#[derive(Debug)]
pub(super) enum SimulatedEvent {
    /// A link is tried.
    Attempt(InstanceRun),
    /// A link's own word is due.
    Probe(InstanceRun, LinkNumber),
    AtRedis(InstanceRun, LinkNumber, NodeIndex, RedisRequest),
    /// From the subscriber, in order.
    Pushed(InstanceRun, LinkNumber, Event),
    Answered(InstanceRun, LinkNumber, Ticket, Event),
    LinkEnds(InstanceRun, LinkNumber, &'static str),
    ToPump(InstanceRun, ShardIndex, FromShard),
    ToShard(InstanceRun, ShardIndex, ToShard),
    Sweep(InstanceRun),
    Second(InstanceRun),
    /// A client's connection reaches an instance.
    Opened(InstanceRun, Wire),
    SendText(Wire, String),
    Pongs(Wire, Vec<u8>),
    /// A client answers a close.
    Closes(Wire, u16),
    /// A connection is gone without a word.
    Vanishes(Wire),
    /// A client asks for its session once more.
    AsksAgain(Wire),
    /// An instance tells the registry what is new.
    PeerHeartbeat(InstanceRun),
    /// The registry forgets a dead instance.
    Reaped(Box<Member>),
    /// Bytes reach a client.
    Reads(Wire, Vec<u8>),
    /// The instance's socket has room again.
    Writable(Wire),
    EndSeenByServer(Wire),
    EndSeenByClient(Wire),
    Connect(usize),
    Act(usize),
    Resume(Wire),
    BackendPublishes,
    Replicate,
    Break,
    Heal(Heal),
}

/// The events to come.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    now_ms: u64,
    number: u64,
    events: BinaryHeap<Reverse<Item>>,
}

#[derive(Debug)]
struct Item {
    at_ms: u64,
    number: u64,
    what: SimulatedEvent,
}

impl Schedule {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn after(&mut self, delay_ms: u64, what: SimulatedEvent) {
        self.at(self.now_ms + delay_ms, what);
    }

    pub(super) fn at(&mut self, at_ms: u64, what: SimulatedEvent) {
        self.number += 1;
        self.events.push(Reverse(Item { at_ms, number: self.number, what }));
    }

    /// The next event, up to a time. The clock goes on to it.
    pub(super) fn next(&mut self, until_ms: u64) -> Option<SimulatedEvent> {
        if self.events.peek().is_none_or(|Reverse(item)| item.at_ms > until_ms) {
            self.now_ms = until_ms;
            return None;
        }
        let Reverse(item) = self.events.pop()?;
        self.now_ms = item.at_ms;
        Some(item.what)
    }
}

/// One direction of a connection: what goes in first comes out first, however long each takes.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    last_ms: u64,
}

impl Pipe {
    /// When something put in now comes out.
    pub(super) fn through(&mut self, now_ms: u64, delay_ms: u64) -> u64 {
        self.last_ms = self.last_ms.max(now_ms + delay_ms);
        self.last_ms
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}
