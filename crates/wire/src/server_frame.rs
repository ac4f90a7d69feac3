//! Everything the gateway may say besides messages (see [`crate::Message`]).

mod json;

use std::borrow::Cow;

use serde::Serialize;

use crate::error_code::ErrorCode;
use crate::notice::Notice;
use crate::position::Position;
use crate::timestamp::Timestamp;

/// One control frame to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// The session is open.
    Welcome(Welcome<'a>),
    /// What a session held has been brought back, or there is nothing.
    Restored {
        /// What is known of it: none when there is no record.
        record: Option<Restored<'a>>,
        /// The session that goes on, where the one that was named is another user's and `welcome` came before.
        session_id: Option<Cow<'a, str>>,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// The subscription stands: what is published after `position` is delivered or reported.
    Subscribed {
        /// As the client named it.
        channel: Cow<'a, str>,
        /// Everything after this position follows: the client's own when it resumes, else the newest one.
        /// Absent while degraded.
        position: Option<Position>,
        /// True when the client gave a position and everything after it follows.
        resumed: bool,
        /// True when the broker could not confirm: only what this instance itself hears is delivered.
        degraded: bool,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// The subscription has ended.
    Unsubscribed {
        /// As the client named it.
        channel: Cow<'a, str>,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// A published message was taken over.
    Ack {
        /// Where it was published.
        channel: Cow<'a, str>,
        /// Where it stands.
        position: Option<Position>,
        /// What is true of it.
        level: AckLevel,
        /// It had been published before under the same id: nothing was stored now.
        duplicate: bool,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// A receipt was taken. It is written down within a second.
    Receipt {
        /// As the client named it.
        channel: Cow<'a, str>,
        /// As the client gave it.
        position: Position,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// Who is in a scope; the `joined` and `left` that follow begin here.
    Presence {
        /// The scope's own channel.
        channel: Cow<'a, str>,
        /// How many members there are.
        count: usize,
        /// Some of them, or all.
        members: Vec<PresenceMember<'a>>,
        /// The broker cannot be asked: these are the members on this instance.
        stale: bool,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// A user has become a member of a scope.
    Joined {
        /// The scope's own channel.
        channel: Cow<'a, str>,
        /// Who.
        member: PresenceMember<'a>,
        /// How many there are now.
        count: usize,
    },
    /// A user is a member no more.
    Left {
        /// The scope's own channel.
        channel: Cow<'a, str>,
        /// Who.
        user: Cow<'a, str>,
        /// How many there are now.
        count: usize,
    },
    /// Something was refused.
    Error {
        /// What.
        code: ErrorCode,
        /// A sentence that helps.
        message: Cow<'a, str>,
        /// The channel it was about, if any.
        channel: Option<Cow<'a, str>>,
        /// How long to wait before trying again, if that helps.
        retry_after_ms: Option<u64>,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// A new token was taken over.
    Refreshed {
        /// Milliseconds until the new token expires.
        expires_in_ms: u64,
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// The answer to a client's `ping`.
    Pong {
        /// The client's id.
        correlation_id: Option<Cow<'a, str>>,
    },
    /// Nothing that passes your filter happened up to here.
    Position {
        /// The subscription.
        channel: Cow<'a, str>,
        /// How far it has been seen.
        position: Position,
    },
    /// Messages between `after` and `upto` may be missing.
    Gap {
        /// The subscription.
        channel: Cow<'a, str>,
        /// The last position known to be seen, if any.
        after: Option<Position>,
        /// The subscription continues behind this one.
        upto: Option<Position>,
        /// Why.
        reason: GapReason,
        /// True when messages are known to be missing, false when they may be.
        certain: bool,
    },
    /// The instance lost its broker, or has it back.
    Degraded {
        /// Whether it is lost now.
        degraded: bool,
    },
    /// Come back elsewhere, after a delay that the gateway chose.
    Reconnect {
        /// The delay.
        after_ms: u64,
    },
    /// A word to this connection, apart from all channels.
    Notice(Notice),
    /// The last frame before the gateway closes.
    Bye {
        /// The close code that follows.
        code: u16,
        /// Its reason.
        reason: Cow<'a, str>,
    },
}

/// What a client is told of a session that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored<'a> {
    /// Messages may come again: not all that was sent is known to have been received.
    pub repeats: bool,
    /// What it held; each is answered as one of a `hello` is.
    pub channels: Vec<Cow<'a, str>>,
}

/// What an `ack` says of a message. Never more than is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckLevel {
    /// The broker has stored it, and so has at least one replica.
    Replicated,
    /// The broker has stored it, as safely as it stores anything, and has begun to send it out.
    Durable,
    /// The broker has begun to send it out; the channel's family keeps nothing.
    Published,
    /// The broker cannot be reached. The members on the publisher's own instance get it, nobody else, and it is not
    /// kept.
    Local,
}

impl AckLevel {
    /// Every level, for documents and tests.
    pub const ALL: [Self; 4] = [Self::Replicated, Self::Durable, Self::Published, Self::Local];

    /// The level as it stands in the frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Durable => "durable",
            Self::Published => "published",
            Self::Local => "local",
        }
    }
}

/// What a client is told when its session opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Welcome<'a> {
    /// The session; show it to support.
    pub session_id: Cow<'a, str>,
    /// Who the token says the client is.
    pub user: Cow<'a, str>,
    /// Of which tenant.
    pub tenant: Cow<'a, str>,
    /// Which instance holds the connection.
    pub instance: Cow<'a, str>,
    /// Milliseconds until the token expires.
    pub expires_in_ms: u64,
    /// How often the gateway pings.
    pub ping_interval_ms: u64,
    /// Largest message a client may send.
    pub message_bytes_max: usize,
    /// Most frames per second a client may send.
    pub messages_per_second: u32,
    /// Most channels it may hold.
    pub channels_max: usize,
}

/// A member of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceMember<'a> {
    /// Who.
    pub user: Cow<'a, str>,
    /// Since when.
    pub since: Timestamp,
    /// What its token says about it: a JSON object.
    pub info: Option<Cow<'a, str>>,
}

/// Why messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// They are older than the family's retention.
    Expired,
    /// Redis lost writes that it had acknowledged.
    Failover,
    /// The position is not one that this history handed out.
    UnknownPosition,
    /// The family keeps no history, and the connection to Redis was interrupted.
    NoHistory,
    /// The history could not be read.
    Unreadable,
    /// The instance was cut off from Redis, and messages travelled within it alone.
    Isolated,
    /// The client took them too slowly, and its family keeps only the newest for such a client.
    Slow,
}

impl GapReason {
    /// Every reason, for documents and tests.
    pub const ALL: [Self; 7] = [
        Self::Expired,
        Self::Failover,
        Self::UnknownPosition,
        Self::NoHistory,
        Self::Unreadable,
        Self::Isolated,
        Self::Slow,
    ];

    /// The reason as it stands in the frame.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Failover => "failover",
            Self::UnknownPosition => "unknown_position",
            Self::NoHistory => "no_history",
            Self::Unreadable => "unreadable",
            Self::Isolated => "isolated",
            Self::Slow => "slow",
        }
    }
}

impl ServerFrame<'_> {
    /// The `type` of the frame.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Restored { .. } => "restored",
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Ack { .. } => "ack",
            Self::Receipt { .. } => "receipt",
            Self::Presence { .. } => "presence",
            Self::Joined { .. } => "joined",
            Self::Left { .. } => "left",
            Self::Error { .. } => "error",
            Self::Refreshed { .. } => "refreshed",
            Self::Pong { .. } => "pong",
            Self::Position { .. } => "position",
            Self::Gap { .. } => "gap",
            Self::Degraded { .. } => "degraded",
            Self::Reconnect { .. } => "reconnect",
            Self::Notice(_) => "notice",
            Self::Bye { .. } => "bye",
        }
    }
}
