//! What holds for every session of this instance: who may come in, what there is, and how much of it.

use std::sync::Arc;

use message_router::{OnSlow, Policies};
use wire::{InstanceId, Scope};

use crate::auth::token::Verifier;
use crate::host::rate::RateLimit;

/// Shared by all sessions, never changed while the instance runs.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Which instance this is; told in `welcome`.
    pub(crate) instance: InstanceId,
    /// Checks tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// The channel grammar and what holds for each family.
    pub(crate) policies: Policies,
    /// How much.
    pub(crate) limits: Limits,
}

/// What an operator may tune for each connection.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Largest message a client may send.
    pub(crate) message_bytes_max: usize,
    /// Most frames a client may send per second, as announced in `welcome`.
    pub(crate) messages_per_second: u32,
    /// The same with its burst.
    pub(crate) rate: RateLimit,
    /// What may wait for one client.
    pub(crate) outbox_bytes_max: usize,
    /// What may wait for all clients of the instance whose sockets take nothing.
    pub(crate) backlog_bytes_max: u64,
    /// How long a socket may take nothing while something waits for it.
    pub(crate) write_timeout_ms: u64,
    /// How often the gateway pings.
    pub(crate) ping_interval_ms: u64,
    /// How long a client may be silent after a ping.
    pub(crate) pong_timeout_ms: u64,
    /// How long a connection may stay without a token.
    pub(crate) hello_timeout_ms: u64,
}

impl Limits {
    /// How many bytes may wait for one client before a replay pauses.
    pub(crate) fn replay_pause_bytes(&self) -> usize {
        self.outbox_bytes_max / 4
    }

    /// Beyond the bound for messages, so many bytes are left to answers: a client that asks and does not read is closed.
    pub(crate) fn answers_bytes_max(&self) -> usize {
        self.outbox_bytes_max / 4
    }
}

impl Rules {
    /// The lane of a scope's messages.
    pub(crate) fn lane(&self, scope: &Scope) -> Lane {
        Lane(self.policies.policy(scope.family()).lane)
    }

    /// What becomes of a scope's messages for a client that reads too slowly.
    pub(crate) fn on_slow(&self, scope: &Scope) -> OnSlow {
        self.policies.policy(scope.family()).on_slow
    }
}

/// Which frames go first when a client cannot take all at once. A number per family, never per message, so
/// that order within a scope is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane(pub(crate) u8);

impl Lane {
    /// Answers to the client itself.
    pub(crate) const CONTROL: Self = Self(0);
    /// The close frame: after everything that was queued before it.
    pub(crate) const CLOSE: Self = Self(u8::MAX);
}
