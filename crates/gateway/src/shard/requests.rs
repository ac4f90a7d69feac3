//! Messages to shards, and requests from them.

use std::sync::Arc;
use std::time::Duration;

use connection_registry::{
    MemberList, PresenceCursor, PresenceEvent, RegistrationNumber, RestoreRequest, RestoreResult, SessionClose,
};
use message_router::{Gap, Joiner, Positions, ShardIndex};
use serde_json::Value;
use tokio::sync::oneshot;
use wire::{Notice, Scope, SessionId, TenantId, UserId};

use crate::host::mailbox::Mailbox;
use crate::protocol::outgoing::Messages;
use crate::session::publish::PublishRequest;
use crate::shard::catch_up_page::CatchUpPage;
use crate::shard::departures::Departures;
use crate::shard::handoff::Handoff;
use crate::shard::members::Slot;
use crate::shard::publish_reply::PublishReply;

/// A message to a shard. The shard handles messages in order.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// Add a new connection.
    Adopt(Box<Handoff>),
    /// Deliver messages of one scope to its subscribers on this shard.
    Deliver {
        scope: Scope,
        messages: Messages,
        /// Time of the publish by Redis' clock, in milliseconds.
        published_ms: u64,
    },
    /// The answer to [`PumpRequest::Join`].
    Joined(Joiner, Box<CatchUpPage>),
    /// Messages of this scope may be missing.
    Gap(Scope, Gap),
    /// The broker is back, and messages of this scope were delivered on this instance only.
    Isolated(Scope),
    /// The broker has become unreachable (true), or is back (false).
    Degraded(bool),
    /// The answer to [`PumpRequest::Publish`].
    Published(ReplyTo, Box<PublishReply>),
    /// The members of a scope, for the clients that wait for them.
    PresenceListed(Arc<PresenceList>),
    /// A user has joined or left a scope.
    PresenceChanged(Scope, PresenceCursor, Arc<PresenceEvent>),
    /// Some presence changes may have been missed. Request the lists again.
    ResyncPresence,
    /// Too many bytes wait for the slow clients of all shards, and this shard has the most. Evict some.
    Evict,
    /// The instance is full, and a client with a token waits. Close a connection that has shown none.
    EvictUnauthenticated,
    /// Send this many more clients to other instances, and accept no new ones.
    Drain(Departures),
    /// Disconnect the clients that are still connected: the drain's time is over.
    DisconnectAll,
    /// Move this many clients to emptier instances, except those that have been here for less than this time.
    Rebalance(Departures, Duration),
    /// Close a session's connection with this number, and its earlier ones, if they are still here.
    CloseSession(SessionClose, RegistrationNumber),
    /// Close the connections whose token, session or user has been revoked.
    CloseRevoked,
    /// Send an operator the list of the connections here.
    List(Box<Listing>),
    /// The answer to a connection's request for the record of its session.
    Restored(Box<(RestoreRequest, RestoreResult)>),
    /// Send a session a notice, if it is still here.
    Notice(SessionId, Notice),
    /// Stop the shard's thread.
    Stop,
}

/// The connection that waits for the answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) shard: ShardIndex,
    pub(crate) slot: Slot,
    /// The number of the connection. Another connection may have its slot by now.
    pub(crate) number: u64,
    pub(crate) correlation_id: Option<Box<str>>,
}

/// A request to the pump.
#[derive(Debug)]
pub(crate) enum PumpRequest {
    /// A client of a shard wants this scope after these positions.
    Join { shard: ShardIndex, joiner: Joiner, scope: Scope, after: Positions },
    /// No client of a shard wants the scope any more.
    Leave { shard: ShardIndex, scope: Scope },
    /// A client publishes a message.
    Publish(PublishRequest, ReplyTo),
}

/// A shard starts or stops watching a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchRequest {
    /// A client there waits for a list.
    Begun(Scope),
    /// No client there watches the scope any more.
    Ended(Scope),
}

/// Requests of the shards to the presence service. Bounded by the number of subscriptions and the rate of their
/// clients.
pub(crate) type PresenceInbox = Mailbox<(ShardIndex, WatchRequest)>;

/// A request for a shard's connections.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Only connections of this tenant.
    pub(crate) tenant: Option<TenantId>,
    /// Only connections of these users, unless the list is empty.
    pub(crate) users: Vec<UserId>,
    /// At most this many.
    pub(crate) most: usize,
    /// Receives the answer. If the receiver is gone, the answer is dropped.
    pub(crate) answer: oneshot::Sender<Vec<Value>>,
}

/// The members of a scope, for the clients that wait for them.
#[derive(Debug)]
pub(crate) struct PresenceList {
    pub(crate) scope: Scope,
    /// Changes after this cursor follow. Absent if the store could not be asked: the list then has only what this
    /// instance knows.
    pub(crate) cursor: Option<PresenceCursor>,
    pub(crate) list: MemberList,
}
