//! What shards are told, and what they ask for.

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
    /// The answer to [`PumpRequest::Join`].
    Joined(Joiner, Box<CatchUpPage>),
    /// Messages may be missing.
    Gap(Scope, Gap),
    /// The broker is back, and messages of this scope have travelled within this instance alone.
    Isolated(Scope),
    /// The broker is lost, or back.
    Degraded(bool),
    /// The answer to [`PumpRequest::Publish`].
    Published(ReplyTo, Box<PublishReply>),
    /// Who is in a scope, for those who wait for it.
    PresenceListed(Arc<PresenceList>),
    /// Somebody has joined a scope or left it.
    PresenceChanged(Scope, PresenceCursor, Arc<PresenceEvent>),
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
    Notice(SessionId, Notice),
    /// End the thread.
    Stop,
}

/// Who awaits the answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) shard: ShardIndex,
    pub(crate) slot: Slot,
    /// The connection's own number: its slot may have another tenant by now.
    pub(crate) number: u64,
    pub(crate) correlation_id: Option<Box<str>>,
}

/// What is asked of the pump.
#[derive(Debug)]
pub(crate) enum PumpRequest {
    /// Somebody on a shard wants this scope from `after` on.
    Join { shard: ShardIndex, joiner: Joiner, scope: Scope, after: Positions },
    /// Nobody on a shard wants it any more.
    Leave { shard: ShardIndex, scope: Scope },
    /// Somebody publishes.
    Publish(PublishRequest, ReplyTo),
}

/// A shard's word on a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchRequest {
    /// Somebody there waits for a list.
    Begun(Scope),
    /// Nobody there watches any more.
    Ended(Scope),
}

/// What shards tell the presence service. Bounded by the subscriptions there are and the rate of their clients.
pub(crate) type PresenceInbox = Mailbox<(ShardIndex, WatchRequest)>;

/// Asks a shard for its connections.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Of this tenant alone.
    pub(crate) tenant: Option<TenantId>,
    /// Of these users alone, unless there are none.
    pub(crate) users: Vec<UserId>,
    /// No more than so many.
    pub(crate) most: usize,
    /// Where to. Whoever has stopped to wait is told nothing.
    pub(crate) answer: oneshot::Sender<Vec<Value>>,
}

/// A list for whoever waits for it.
#[derive(Debug)]
pub(crate) struct PresenceList {
    pub(crate) scope: Scope,
    /// What stands behind it follows. Absent if the store could not be asked: then the list is what this instance knows.
    pub(crate) cursor: Option<PresenceCursor>,
    pub(crate) list: MemberList,
}
