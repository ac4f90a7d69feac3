//! Everything the gateway may say besides messages (see [`crate::Message`]).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::encoded::{Encoded, FrameBuilder, Opcode};
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
        session_id: Option<&'a str>,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// The subscription stands: what is published after `position` is delivered or reported.
    Subscribed {
        /// As the client named it.
        channel: &'a str,
        /// Everything after this position follows: the client's own when it resumes, else the newest one.
        /// Absent while degraded.
        position: Option<Position>,
        /// True when the client gave a position and everything after it follows.
        resumed: bool,
        /// True when the broker could not confirm: only what this instance itself hears is delivered.
        degraded: bool,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// The subscription has ended.
    Unsubscribed {
        /// As the client named it.
        channel: &'a str,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// A published message was taken over.
    Ack {
        /// Where it was published.
        channel: &'a str,
        /// Where it stands.
        position: Option<Position>,
        /// What is true of it.
        level: AckLevel,
        /// It had been published before under the same id: nothing was stored now.
        duplicate: bool,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// A receipt was taken. It is written down within a second.
    Receipt {
        /// As the client named it.
        channel: &'a str,
        /// As the client gave it.
        position: Position,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// Who is in a scope; the `joined` and `left` that follow begin here.
    Presence {
        /// The scope's own channel.
        channel: &'a str,
        /// How many members there are.
        count: usize,
        /// Some of them, or all.
        members: Vec<PresenceMember<'a>>,
        /// The broker cannot be asked: these are the members on this instance.
        stale: bool,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// A user has become a member of a scope.
    Joined {
        /// The scope's own channel.
        channel: &'a str,
        /// Who.
        member: PresenceMember<'a>,
        /// How many there are now.
        count: usize,
    },
    /// A user is a member no more.
    Left {
        /// The scope's own channel.
        channel: &'a str,
        /// Who.
        user: &'a str,
        /// How many there are now.
        count: usize,
    },
    /// Something was refused.
    Error {
        /// What.
        code: ErrorCode,
        /// A sentence that helps.
        message: &'a str,
        /// The channel it was about, if any.
        channel: Option<&'a str>,
        /// How long to wait before trying again, if that helps.
        retry_after_ms: Option<u64>,
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// A new token was taken over.
    Refreshed {
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// The answer to a client's `ping`.
    Pong {
        /// The client's id.
        correlation_id: Option<&'a str>,
    },
    /// Nothing that passes your filter happened up to here.
    Position {
        /// The subscription.
        channel: &'a str,
        /// How far it has been seen.
        position: Position,
    },
    /// Messages between `after` and `upto` may be missing.
    Gap {
        /// The subscription.
        channel: &'a str,
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
        reason: &'a str,
    },
}

/// What a client is told of a session that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored<'a> {
    /// Messages may come again: not all that was sent is known to have been received.
    pub repeats: bool,
    /// What it held; each is answered as one of a `hello` is.
    pub channels: Vec<&'a str>,
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
    pub session_id: &'a str,
    /// Who the token says the client is.
    pub user: &'a str,
    /// Of which tenant.
    pub tenant: &'a str,
    /// Which instance holds the connection.
    pub instance: &'a str,
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
    pub user: &'a str,
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

/// The shape on the wire; absent fields are left out.
#[derive(Serialize, Default)]
struct Shape<'a, P: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

#[derive(Serialize)]
struct RestoredPayload<'a> {
    found: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeats: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<&'a [&'a str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct SubscribedPayload {
    resumed: bool,
    degraded: bool,
}

#[derive(Serialize)]
struct AckPayload {
    level: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Serialize)]
struct PresencePayload<'a> {
    count: usize,
    members: Vec<MemberPayload<'a>>,
    stale: bool,
}

#[derive(Serialize)]
struct MemberPayload<'a> {
    user: &'a str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct JoinedPayload<'a> {
    user: &'a str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a RawValue>,
    count: usize,
}

#[derive(Serialize)]
struct LeftPayload<'a> {
    user: &'a str,
    count: usize,
}

impl<'a> From<&'a PresenceMember<'_>> for MemberPayload<'a> {
    fn from(member: &'a PresenceMember<'_>) -> Self {
        // What is not JSON did not come from a gateway, and is left out.
        let info = member.info.as_deref().and_then(|info| serde_json::from_str(info).ok());
        Self { user: member.user, since: member.since.to_string(), info }
    }
}

#[derive(Serialize)]
struct ErrorPayload<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
struct GapPayload {
    after: Option<String>,
    upto: Option<String>,
    reason: &'static str,
    certain: bool,
}

#[derive(Serialize)]
struct DegradedPayload {
    degraded: bool,
}

#[derive(Serialize)]
struct ReconnectPayload {
    after_ms: u64,
}

#[derive(Serialize)]
struct ByePayload<'a> {
    code: u16,
    reason: &'a str,
    reconnect: bool,
}

impl ServerFrame<'_> {
    /// The finished frame.
    ///
    /// ```
    /// use wire::ServerFrame;
    /// let frame = ServerFrame::Pong { correlation_id: Some("p1") }.encode();
    /// assert_eq!(frame.payload(), br#"{"type":"pong","correlation_id":"p1"}"#);
    /// ```
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let bare = |kind, correlation_id| shape::<()>(kind, None, None, correlation_id, None);
        match self {
            Self::Welcome(welcome) => shape("welcome", None, Some(welcome), None, None),
            Self::Restored { record, session_id, correlation_id } => {
                let record = record.as_ref();
                let (repeats, channels) = (record.map(|r| r.repeats), record.map(|r| &*r.channels));
                let payload = RestoredPayload { found: record.is_some(), repeats, channels, session_id: *session_id };
                shape("restored", None, Some(payload), *correlation_id, None)
            }
            Self::Subscribed { channel, position, resumed, degraded, correlation_id } => {
                let payload = SubscribedPayload { resumed: *resumed, degraded: *degraded };
                shape("subscribed", Some(channel), Some(payload), *correlation_id, *position)
            }
            Self::Unsubscribed { channel, correlation_id } => {
                shape::<()>("unsubscribed", Some(channel), None, *correlation_id, None)
            }
            Self::Ack { channel, position, level, duplicate, correlation_id } => {
                let payload = AckPayload { level: level.as_str(), duplicate: *duplicate };
                shape("ack", Some(channel), Some(payload), *correlation_id, *position)
            }
            Self::Receipt { channel, position, correlation_id } => {
                shape::<()>("receipt", Some(channel), None, *correlation_id, Some(*position))
            }
            Self::Presence { channel, count, members, stale, correlation_id } => {
                let members = members.iter().map(MemberPayload::from).collect();
                let payload = PresencePayload { count: *count, members, stale: *stale };
                shape("presence", Some(channel), Some(payload), *correlation_id, None)
            }
            Self::Joined { channel, member, count } => {
                let MemberPayload { user, since, info } = member.into();
                let payload = JoinedPayload { user, since, info, count: *count };
                shape("joined", Some(channel), Some(payload), None, None)
            }
            Self::Left { channel, user, count } => {
                shape("left", Some(channel), Some(LeftPayload { user, count: *count }), None, None)
            }
            Self::Error { code, message, channel, retry_after_ms, correlation_id } => {
                let (retryable, retry_after_ms) = (code.retryable(), *retry_after_ms);
                let payload = ErrorPayload { code: code.as_str(), message, retryable, retry_after_ms };
                shape("error", *channel, Some(payload), *correlation_id, None)
            }
            Self::Refreshed { correlation_id } => bare("refreshed", *correlation_id),
            Self::Pong { correlation_id } => bare("pong", *correlation_id),
            Self::Position { channel, position } => shape::<()>("position", Some(channel), None, None, Some(*position)),
            Self::Gap { channel, after, upto, reason, certain } => {
                let text = |position: &Option<Position>| position.map(|p| p.to_string());
                let (after, upto) = (text(after), text(upto));
                let payload = GapPayload { after, upto, reason: reason.as_str(), certain: *certain };
                shape("gap", Some(channel), Some(payload), None, None)
            }
            Self::Degraded { degraded } => {
                shape("degraded", None, Some(DegradedPayload { degraded: *degraded }), None, None)
            }
            Self::Reconnect { after_ms } => {
                shape("reconnect", None, Some(ReconnectPayload { after_ms: *after_ms }), None, None)
            }
            Self::Notice(notice) => shape("notice", None, Some(notice), None, None),
            Self::Bye { code, reason } => {
                let payload = ByePayload { code: *code, reason, reconnect: crate::Close::should_reconnect(*code) };
                shape("bye", None, Some(payload), None, None)
            }
        }
    }
}

fn shape<P: Serialize>(
    kind: &str,
    channel: Option<&str>,
    payload: Option<P>,
    correlation_id: Option<&str>,
    position: Option<Position>,
) -> Encoded {
    let position = position.map(|p| p.to_string());
    let mut frame = FrameBuilder::new(256);
    let shape = Shape { kind, channel, payload, correlation_id, position };
    serde_json::to_writer(&mut frame.payload, &shape).expect("these shapes are JSON and a Vec takes everything");
    frame.finish(Opcode::Text)
}
