//! PURE. Who may publish what: the one admission for everybody who publishes with a token.

use std::borrow::Cow;

use message_router::Policies;
use wire::{Channel, ErrorCode, MessageDraft, UserId};

use crate::auth::token::Identity;
use crate::host::clock::Now;

/// A message on its way to the broker.
#[derive(Debug)]
pub(crate) struct PublishRequest {
    pub(crate) user: UserId,
    pub(crate) channel: Channel,
    /// The message's id, made the user's own: the same id of another user is another message.
    pub(crate) id: Option<Box<str>>,
    pub(crate) message: Vec<u8>,
}

/// What a publisher asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishDraft<'d> {
    pub(crate) channel: &'d str,
    pub(crate) id: Option<&'d str>,
    pub(crate) message: &'d MessageDraft<'d>,
}

/// Checks a message against the publisher's token and the channel's family.
///
/// # Errors
/// With a code and a sentence for the publisher.
pub(crate) fn admit(
    identity: &Identity,
    policies: &Policies,
    now: Now,
    draft: PublishDraft<'_>,
) -> Result<PublishRequest, (ErrorCode, Cow<'static, str>)> {
    let PublishDraft { channel, id, message } = draft;
    let channel = policies.families().parse_channel(&identity.tenant, channel);
    let channel = channel.map_err(|error| (ErrorCode::InvalidChannel, Cow::Owned(error.to_string())))?;
    if identity.is_expired(now.unix_s()) {
        return Err((ErrorCode::TokenExpired, "the token has expired; send a refresh with a new one".into()));
    }
    if !identity.may_publish(&channel) {
        return Err((ErrorCode::Forbidden, "the token does not grant publishing to this channel".into()));
    }
    if message.binary.is_some() && !policies.policy(channel.scope.family()).binary {
        return Err((ErrorCode::InvalidField, "this channel's family accepts no binary messages".into()));
    }
    // A slash is in no name: ids of users meet neither each other nor those that backends choose.
    let id = id.map(|id| format!("{}/{id}", identity.user).into());
    Ok(PublishRequest { user: identity.user.clone(), channel, id, message: message.to_bytes() })
}
