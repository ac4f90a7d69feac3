//! What a session decides: the list of things its shard carries out.

use std::borrow::Cow;

use records::Receipt;
use wire::{Close, ErrorCode, Filter, Position, Scope, ServerFrame};

use super::Subscription;
use super::publish::PublishRequest;
use crate::session::rules::Lane;

/// What the shard is to do, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Queue a reply.
    Send(Lane, ServerFrame<'static>),
    /// Queue an `error`.
    Refuse(ServerFrame<'static>),
    /// The session is open: tell how the instance stands.
    Opened,
    /// The holder has become known, or has shown a new token: list it, and look again at when the token ends.
    Identified,
    /// Leave a record when the connection ends.
    KeepRecord,
    /// Have the record of the session brought, which the session waits for.
    Restore,
    /// Subscribe within one scope, all patterns together, so that its messages come once and in order.
    Join(JoinRequest),
    /// Stop hearing a pattern the session has just dropped; `subscription` says whether it was live.
    Leave(Subscription),
    /// Hand a message to the broker. The text is the client's correlation id.
    Publish(PublishRequest, Option<Box<str>>),
    /// Note how far a user has got, if so much has been sent.
    Receipt(ReceiptRequest),
    /// Tell who is in a scope, now and from now on.
    Presence(PresenceRequest),
    /// Send what is queued, then close.
    Close(Close),
}

/// Patterns of one scope, each with the last position its client saw.
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

/// A receipt, and how to answer it.
#[derive(Debug)]
pub(crate) struct ReceiptRequest {
    pub(crate) receipt: Receipt,
    /// As the client named it.
    pub(crate) channel: Box<str>,
    /// Without one there is no answer.
    pub(crate) correlation_id: Option<Box<str>>,
}

/// Who is in a scope that the client holds, in a family with presence.
#[derive(Debug)]
pub(crate) struct PresenceRequest {
    pub(crate) scope: Scope,
    pub(crate) correlation_id: Option<Box<str>>,
}

/// An `error`.
pub(crate) fn refuse(code: ErrorCode, message: &str, channel: Option<&str>, id: Option<&str>) -> Effect {
    // What a client sent as a channel comes back to it, but not at any length.
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

/// A text of a reply that outlives the frame it answers.
pub(crate) fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}
