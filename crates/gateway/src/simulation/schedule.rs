//! The schedule: events in the order of virtual time, and in the order of scheduling if the times are equal.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use message_router::{Event, ShardIndex, Ticket};
use redis_model::{Connection, NodeIndex};
use wire::Scope;

use super::fault::Heal;
use super::registry::Member;
use crate::shard::requests::{PumpRequest, ToShard};

/// One incarnation of an instance. Events for an earlier incarnation are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InstanceRun {
    pub(super) instance: usize,
    pub(super) number: u64,
}

/// A connection of a client, with a unique number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) client: usize,
    pub(super) number: u64,
}

/// One connection pair of an instance to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkNumber(pub(super) u64);

/// A request that arrives at Redis.
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
    /// An instance tries to connect to Redis.
    Attempt(InstanceRun),
    /// A probe of a connection pair is due.
    Probe(InstanceRun, LinkNumber),
    AtRedis(InstanceRun, LinkNumber, NodeIndex, RedisRequest),
    /// A push to the subscriber, in order.
    Pushed(InstanceRun, LinkNumber, Event),
    Answered(InstanceRun, LinkNumber, Ticket, Event),
    LinkEnds(InstanceRun, LinkNumber, &'static str),
    ToPump(InstanceRun, PumpRequest),
    ToShard(InstanceRun, ShardIndex, ToShard),
    Sweep(InstanceRun),
    Second(InstanceRun),
    /// A connection of a client reaches an instance.
    Opened(InstanceRun, Wire),
    SendText(Wire, String),
    Pongs(Wire, Vec<u8>),
    /// A client answers a close frame.
    Closes(Wire, u16),
    /// A connection ends without informing the instance.
    Vanishes(Wire),
    /// A client requests its session again.
    AsksAgain(Wire),
    /// An instance runs its heartbeat task.
    PeerHeartbeat(InstanceRun),
    /// The registry removes a dead instance.
    Reaped(Box<Member>),
    /// Bytes reach a client.
    Reads(Wire, Vec<u8>),
    /// A socket of an instance is writable again.
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

/// The scheduled events and the virtual clock.
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

    /// Returns the next event up to `until_ms`, and advances the clock to it.
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

/// One direction of a connection. It keeps the order, whatever the delay of each item.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    last_ms: u64,
}

impl Pipe {
    /// Returns the time at which an item that is sent now arrives.
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
