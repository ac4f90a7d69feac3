//! PURE. The admission check for every publish that is made with a token.

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
    /// The message's id with the user's name in front. So the same id of another user is another message.
    pub(crate) id: Option<Box<str>>,
    pub(crate) message: Vec<u8>,
}

/// A publish before its check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishDraft<'d> {
    pub(crate) channel: &'d str,
    pub(crate) id: Option<&'d str>,
    pub(crate) message: &'d MessageDraft<'d>,
}

/// Checks a message against the publisher's token and the channel's family.
///
/// # Errors
///
/// Gives an error code and a message for the publisher.
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
        return Err((ErrorCode::TokenExpired, super::EXPIRED.into()));
    }
    if !identity.may_publish(&channel) {
        return Err((ErrorCode::Forbidden, identity.why_not_publish(policies.families(), &channel).into()));
    }
    if message.binary.is_some() && !policies.policy(channel.scope.family()).binary {
        return Err((ErrorCode::InvalidField, "this channel's family accepts no binary messages".into()));
    }
    // Names contain no slash. So ids of different users never collide with each other, or with ids that backends
    // choose.
    let id = id.map(|id| format!("{}/{id}", identity.user).into());
    Ok(PublishRequest { user: identity.user.clone(), channel, id, message: message.to_bytes() })
}
