//! The way of one instance to Redis: a subscriber's connection and one for calls, which live and die together.

use std::collections::{BTreeMap, BTreeSet};

use message_router::Ticket;
use redis_model::{Connection, NodeIndex};
use wire::Scope;

use super::schedule::{LinkNumber, Pipe};

/// Down, or up.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) up: Option<Up>,
    /// Nothing gets through in either direction, and neither side is told.
    pub(super) is_disconnected: bool,
    /// The next attempt puts the subscriber on the replica.
    pub(super) strays: bool,
    /// Of calls, so many in a thousand are lost before Redis, and so many answers.
    pub(super) lost_calls: u64,
    pub(super) lost_answers: u64,
}

#[derive(Debug)]
pub(super) struct Up {
    pub(super) number: LinkNumber,
    pub(super) subscriber: Connection,
    /// Where it is subscribed.
    pub(super) subscribed_at: NodeIndex,
    /// Where it calls.
    pub(super) calls_at: NodeIndex,
    pub(super) to_subscriber: Pipe,
    pub(super) from_subscriber: Pipe,
    /// Calls without an answer.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// What Redis has confirmed, and the router has not let go of.
    pub(super) received: BTreeSet<Box<str>>,
    /// Intervals without a sign of life.
    pub(super) missed: u32,
    /// Something came in on the subscriber since the last word.
    pub(super) has_received: bool,
}

#[derive(Debug)]
pub(super) enum Pending {
    Publish,
    Tops,
    Lost,
    Read {
        scope: Scope,
        /// The generation that Redis was in when it answered.
        answered_in: Option<u64>,
    },
}

impl Up {
    /// Whether a history of the scope is being read, and has not been answered by Redis if `unread`.
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
