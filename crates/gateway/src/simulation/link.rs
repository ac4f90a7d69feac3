//! The connection pair of one instance to Redis: one connection of the subscriber and one for calls. They begin and
//! end together.

use std::collections::{BTreeMap, BTreeSet};

use message_router::Ticket;
use redis_model::{Connection, NodeIndex};
use wire::Scope;

use super::schedule::{LinkNumber, Pipe};

/// The connection pair, up or down.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) up: Option<Up>,
    /// Nothing is delivered in either direction, and neither side is informed.
    pub(super) is_disconnected: bool,
    /// The next attempt connects the subscriber to the replica.
    pub(super) strays: bool,
    /// Calls lost on the way to Redis, per thousand. `lost_answers` counts replies lost on the way back.
    pub(super) lost_calls: u64,
    pub(super) lost_answers: u64,
}

#[derive(Debug)]
pub(super) struct Up {
    pub(super) number: LinkNumber,
    pub(super) subscriber: Connection,
    /// The node of the subscriber.
    pub(super) subscribed_at: NodeIndex,
    /// The node of the calls.
    pub(super) calls_at: NodeIndex,
    pub(super) to_subscriber: Pipe,
    pub(super) from_subscriber: Pipe,
    /// Calls that are not answered yet, by ticket.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Scopes whose subscription Redis has confirmed and the router has not ended.
    pub(super) received: BTreeSet<Box<str>>,
    /// Consecutive probe intervals without a sign of life.
    pub(super) missed: u32,
    /// Whether the subscriber received anything since the last probe.
    pub(super) has_received: bool,
}

#[derive(Debug)]
pub(super) enum Pending {
    Publish,
    Tops,
    Lost,
    Read {
        scope: Scope,
        /// The generation of the scope when Redis answered.
        answered_in: Option<u64>,
    },
}

impl Up {
    /// Whether a history of the scope is being read. With `unread`, only a read that Redis has not answered counts.
    pub(super) fn is_reading(&self, wanted: &Scope, unread: bool) -> bool {
        self.pending.values().any(|pending| match pending {
            Pending::Read { scope, answered_in } => scope == wanted && !(unread && answered_in.is_some()),
            Pending::Publish | Pending::Tops | Pending::Lost => false,
        })
    }

    pub(super) fn answered_in(&self, ticket: Ticket) -> Option<u64> {
        match self.pending.get(&ticket.0)? {
            Pending::Read { answered_in, .. } => *answered_in,
            Pending::Publish | Pending::Tops | Pending::Lost => None,
        }
    }
}
