//! PURE. Which channels a client may subscribe to, and how subscriptions begin and end.

use std::borrow::Cow;

use wire::{CHANNELS_PER_CONNECTION_MAX, ErrorCode, Pattern, Resume, ServerFrame};

use super::effect::owned;
use super::{Effect, JoinRequest, Session, State, Subscription, Wanted, refuse};
use crate::session::rules::Rules;

impl Session {
    pub(super) fn subscribe_all(
        &mut self,
        wanted: Vec<Resume<'_>>,
        id: Option<&str>,
        rules: &Rules,
        out: &mut Vec<Effect>,
    ) {
        let mut joins: Vec<JoinRequest> = Vec::new();
        for Resume { channel, position } in wanted {
            match self.admit(&channel, rules) {
                Err((code, message)) => out.push(refuse(code, &message, Some(&channel), id)),
                Ok(pattern) => {
                    let wanted = Wanted { filter: pattern.filter.clone(), after: position };
                    match joins.iter_mut().find(|join| join.scope == pattern.scope) {
                        Some(join) => join.wanted.push(wanted),
                        None => joins.push(JoinRequest {
                            scope: pattern.scope.clone(),
                            wanted: vec![wanted],
                            correlation_id: id.map(Box::from),
                        }),
                    }
                    self.subscriptions.reserve_exact(1);
                    self.subscriptions.push(Subscription::new(pattern));
                }
            }
        }
        out.extend(joins.into_iter().map(Effect::Join));
    }

    /// Whether the client may subscribe to one more channel.
    fn admit(&self, channel: &str, rules: &Rules) -> Result<Pattern, (ErrorCode, Cow<'static, str>)> {
        let State::Open(identity) = &self.state else {
            return Err((ErrorCode::Unauthenticated, "the session is not open".into()));
        };
        let families = rules.policies.families();
        let pattern = families
            .parse(&identity.tenant, channel)
            .map_err(|e| (ErrorCode::InvalidChannel, Cow::Owned(e.to_string())))?;
        if !identity.may_subscribe(&pattern) {
            return Err((ErrorCode::Forbidden, identity.why_not_subscribe(families, &pattern).into()));
        }
        if self.find(&pattern).is_some() {
            return Err((ErrorCode::AlreadySubscribed, "this connection is already subscribed to the channel".into()));
        }
        if self.subscriptions.len() >= CHANNELS_PER_CONNECTION_MAX {
            let message = format!("a connection holds at most {CHANNELS_PER_CONNECTION_MAX} channels");
            return Err((ErrorCode::TooManyChannels, message.into()));
        }
        Ok(pattern)
    }

    pub(super) fn unsubscribe(&mut self, channel: &str, id: Option<&str>, rules: &Rules, out: &mut Vec<Effect>) {
        let State::Open(identity) = &self.state else { return };
        let pattern = match rules.policies.families().parse(&identity.tenant, channel) {
            Ok(pattern) => pattern,
            Err(e) => return out.push(refuse(ErrorCode::InvalidChannel, &e.to_string(), Some(channel), id)),
        };
        let Some(at) = self.find(&pattern) else {
            let message = "this connection is not subscribed to the channel";
            return out.push(refuse(ErrorCode::NotSubscribed, message, Some(channel), id));
        };
        let subscription = self.subscriptions.remove(at);
        out.push(unsubscribed(&subscription.pattern, channel, id, rules));
        out.push(Effect::Leave(subscription));
    }
}

/// The reply uses the lane of the scope, so that it does not overtake the last messages of the subscription.
pub(super) fn unsubscribed(pattern: &Pattern, channel: &str, id: Option<&str>, rules: &Rules) -> Effect {
    let reply = ServerFrame::Unsubscribed { channel: owned(channel), correlation_id: id.map(owned) };
    Effect::Send(rules.lane(&pattern.scope), reply)
}
