//! The decisions of a session: a list of effects that its shard carries out.

use std::borrow::Cow;

use records::Receipt;
use wire::{Close, ErrorCode, Filter, Position, Scope, ServerFrame};

use super::Subscription;
use super::publish::PublishRequest;
use crate::session::rules::Lane;

/// What the shard has to do, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Queue a reply in this lane.
    Send(Lane, ServerFrame<'static>),
    /// Queue an `error`, and count it.
    Refuse(ServerFrame<'static>),
    /// The session is open. Tell the client if the instance is degraded.
    Opened,
    /// The user has become known, or has shown a new token. Register the session, and check it again when the token
    /// expires.
    Identified,
    /// Keep the data for a record that is left when the connection ends.
    KeepRecord,
    /// Ask for the record of the session. The session waits for it.
    Restore,
    /// Subscribe to patterns of one scope, all together, so that the scope's messages are sent once and in order.
    Join(JoinRequest),
    /// End a subscription that the session has removed. `subscription` says whether it was live.
    Leave(Subscription),
    /// Pass a message to the broker. The text is the client's correlation id.
    Publish(PublishRequest, Option<Box<str>>),
    /// Store how far a user has acknowledged a scope, if that position has been sent.
    Receipt(ReceiptRequest),
    /// Send the members of a scope, and later its changes.
    Presence(PresenceRequest),
    /// Send what is queued, then close.
    Close(Close),
}

/// Patterns of one scope, each with the last position that its client has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    pub(crate) scope: Scope,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) correlation_id: Option<Box<str>>,
}

/// One pattern of a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    pub(crate) after: Option<Position>,
}

/// A receipt, and the data for its reply.
#[derive(Debug)]
pub(crate) struct ReceiptRequest {
    pub(crate) receipt: Receipt,
    /// The channel as the client named it.
    pub(crate) channel: Box<str>,
    /// If absent, the client gets no reply.
    pub(crate) correlation_id: Option<Box<str>>,
}

/// A request for the members of a scope in which the client has a subscription. Its family has presence.
#[derive(Debug)]
pub(crate) struct PresenceRequest {
    pub(crate) scope: Scope,
    pub(crate) correlation_id: Option<Box<str>>,
}

/// Builds the effect that sends an `error`.
pub(crate) fn refuse(code: ErrorCode, message: &str, channel: Option<&str>, id: Option<&str>) -> Effect {
    // The error repeats the channel that the client sent, up to a maximum length.
    let channel = channel.map(|text| match text.char_indices().nth(wire::CHANNEL_BYTES_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    });
    Effect::Refuse(ServerFrame::Error {
        code,
        message: owned(message),
        channel: channel.map(owned),
        retry_after_ms: None,
        correlation_id: id.map(owned),
    })
}

/// Copies a text, so that the reply can outlive the client's frame.
pub(crate) fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}
