//! Rules for every session of this instance: accepted tokens, channel families and limits.

use message_router::{OnSlow, Policies};
use wire::{InstanceId, Scope};

use crate::auth::token::Verifier;
use crate::host::rate::RateLimit;
use crate::host::reloadable::Reloadable;

/// Settings that all sessions share. They do not change while the instance runs.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The name of this instance, sent in `welcome`.
    pub(crate) instance: InstanceId,
    /// Checks the tokens of clients.
    pub(crate) verifier: Reloadable<Verifier>,
    /// The channel grammar and the policy of each family.
    pub(crate) policies: Policies,
    /// Limits for each connection.
    pub(crate) limits: Limits,
}

/// Limits that an operator can configure.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Largest message that a client may send, in bytes.
    pub(crate) message_bytes_max: usize,
    /// The same until the client has shown a token, in bytes.
    pub(crate) hello_bytes_max: usize,
    /// How long a message of a client may take from its first byte to its last, in milliseconds.
    pub(crate) message_timeout_ms: u64,
    /// Bytes that the unfinished messages of all clients of one shard may hold.
    pub(crate) inbound_bytes_max: usize,
    /// Most connections of the instance.
    pub(crate) connections_max: u64,
    /// Most connections of one shard that have shown no token.
    pub(crate) unauthenticated_max: usize,
    /// Most frames a client may send per second, as announced in `welcome`.
    pub(crate) messages_per_second: u32,
    /// The same rate with its burst.
    pub(crate) rate: RateLimit,
    /// Bytes of messages that may wait for one client.
    pub(crate) outbox_bytes_max: usize,
    /// Bytes that may wait for all clients of the instance with full sockets.
    pub(crate) backlog_bytes_max: u64,
    /// How long a socket may stay full while data waits for it, in milliseconds.
    pub(crate) write_timeout_ms: u64,
    /// Longest time between two pings of a client, in milliseconds.
    pub(crate) ping_interval_ms: u64,
    /// How long a client may be silent after a ping, in milliseconds.
    pub(crate) pong_timeout_ms: u64,
    /// How long a connection may stay without a token, in milliseconds.
    pub(crate) hello_timeout_ms: u64,
    /// How long a client may take to send a new token after its own has expired, in milliseconds.
    pub(crate) expiry_grace_ms: u64,
}

impl Limits {
    /// How exact the timers of connections are, in milliseconds: a small part of the shortest time that they measure.
    /// Longer times need no finer timers, and each tick costs a little.
    pub(crate) fn timer_grain_ms(&self) -> u64 {
        let shortest_ms = self.ping_interval_ms.min(self.pong_timeout_ms).min(self.hello_timeout_ms);
        (shortest_ms / 8).clamp(5, 250)
    }

    /// How long before the end of its interval a ping is due, in milliseconds. The interval is a promise: clients,
    /// and proxies on the way, count on a ping within it. One grain is the timer's, and one is for the thread.
    pub(crate) fn ping_lead_ms(&self) -> u64 {
        2 * self.timer_grain_ms()
    }

    /// How many bytes may wait for one client before a replay pauses.
    pub(crate) fn replay_pause_bytes(&self) -> usize {
        self.outbox_bytes_max / 4
    }

    /// Bytes reserved for replies, in addition to the bound for messages. A client that sends requests and does not
    /// read the replies is closed.
    pub(crate) fn answers_bytes_max(&self) -> usize {
        self.outbox_bytes_max / 4
    }
}

impl Rules {
    /// The lane of a scope's messages.
    pub(crate) fn lane(&self, scope: &Scope) -> Lane {
        Lane(self.policies.policy(scope.family()).lane)
    }

    /// What happens with a scope's messages when a client reads too slowly.
    pub(crate) fn on_slow(&self, scope: &Scope) -> OnSlow {
        self.policies.policy(scope.family()).on_slow
    }
}

/// The order of frames when a client cannot take all at once: smaller lanes first. The lane belongs to the family, not
/// to the message, so the order within a scope is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(pub(crate) u8);

impl Lane {
    /// Replies to the client itself.
    pub(crate) const CONTROL: Self = Self(0);
    /// The close frame: it follows everything that was queued before it.
    pub(crate) const CLOSE: Self = Self(u8::MAX);
}
