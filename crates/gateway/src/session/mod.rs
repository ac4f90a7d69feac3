//! PURE. The protocol of one client: frames in, effects out.
//!
//! ```text
//!   AwaitHello ──hello with a valid token──▶ Open ──bye, expiry, violation──▶ (closed by the shard)
//! ```

use std::borrow::Cow;

use records::Receipt;
use wire::{
    BadFrame, CHANNELS_PER_CONNECTION_MAX, ClientBody, ClientFrame, Close, ErrorCode, FamilyIndex, Pattern, Position,
    Resume, Scope, ServerFrame, SessionId, TenantId, Welcome,
};

use crate::auth::token::{Identity, TokenError};
use crate::host::clock::Now;
use crate::host::rate::Rate;
use crate::session::rules::Lane;
use crate::session::rules::Rules;

mod effect;
mod expiry;
mod name;
pub(crate) mod publish;
mod restoring;
pub(crate) mod rules;
mod subscribing;

use publish::PublishDraft;
use restoring::Restoring;
use subscribing::unsubscribed;

#[cfg(test)]
pub(crate) use name::bind;
pub(crate) use name::is_of;

use effect::owned;
pub(crate) use effect::{Effect, JoinRequest, PresenceRequest, ReceiptRequest, Wanted, refuse};
pub(crate) use expiry::Expiry;

/// One client's session. It has no handles to other parts: its shard carries the effects out.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    state: State,
    /// The channels and patterns that the client is subscribed to.
    pub(crate) subscriptions: Vec<Subscription>,
    rate: Rate,
    /// Frames refused by the rate limit, minus the frames accepted since.
    refused: u32,
    /// Whether the client has been told that its token has expired.
    is_told_of_expiry: bool,
    /// The restore in progress, if there is one.
    restoring: Option<Box<Restoring>>,
}

#[derive(Debug)]
enum State {
    /// The user is not known yet.
    AwaitHello {
        /// The tenant of the path, if the path has one.
        tenant: Option<TenantId>,
        /// The deadline for the `hello`, in milliseconds.
        by_ms: u64,
    },
    Open(Identity),
}

/// One channel or pattern that a client is subscribed to.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) pattern: Pattern,
    /// False while the subscription catches up.
    pub(crate) live: bool,
    /// The client's position when the subscription was announced. The client may not have read the gap that was sent
    /// with the announcement.
    pub(crate) began: Position,
    /// Once live: this subscription has delivered or will deliver everything after this position.
    pub(crate) since: Position,
    /// Once live: the last position sent to the client in a `position` frame.
    pub(crate) position_sent: Position,
    /// Messages up to this position must not be read from history again. They would be delivered twice, or after a
    /// `gap`.
    pub(crate) floor: Position,
}

impl Subscription {
    fn new(pattern: Pattern) -> Self {
        let none = Position::default();
        Self { pattern, live: false, began: none, since: none, position_sent: none, floor: none }
    }
}

/// The connection is closed when the refused frames exceed the accepted ones by this many seconds of the permitted
/// rate.
const REFUSED_SECONDS_MAX: u32 = 10;

/// The message to a client whose session is revoked.
pub(crate) const REVOKED: &str = "this token, this session or this user is revoked; get another token";

/// What a request contains besides its token.
#[derive(Debug)]
pub(crate) struct WantedSession<'r> {
    /// An earlier session of the user, to continue.
    pub(crate) named: Option<SessionId>,
    pub(crate) channels: Vec<Resume<'r>>,
    /// Channels in whose scopes the members are requested.
    pub(crate) presence: &'r [String],
}

/// The message to a client that needs a new token.
const EXPIRED: &str = "the token has expired; send a refresh with a new one";

impl Session {
    pub(crate) fn new(id: SessionId, path_tenant: Option<TenantId>) -> Self {
        let state = State::AwaitHello { tenant: path_tenant, by_ms: u64::MAX };
        let rate = Rate::default();
        Self { id, state, subscriptions: Vec::new(), rate, refused: 0, is_told_of_expiry: false, restoring: None }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// The user and tenant, once they are known.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match &self.state {
            State::AwaitHello { .. } => None,
            State::Open(identity) => Some(identity),
        }
    }

    /// Sets the deadline for a client without a token.
    pub(crate) fn await_hello(&mut self, until_ms: u64) {
        if let State::AwaitHello { by_ms, .. } = &mut self.state {
            *by_ms = until_ms;
        }
    }

    /// When the connection is closed if its user is not known by then, in milliseconds.
    pub(crate) fn hello_by_ms(&self) -> u64 {
        match self.state {
            State::AwaitHello { by_ms, .. } => by_ms,
            State::Open(_) => u64::MAX,
        }
    }

    /// Opens the session with an identity from the upgrade.
    pub(crate) fn open(&mut self, identity: Identity, now: Now, rules: &Rules, out: &mut Vec<Effect>) {
        let _ = self.open_as(None, identity, now, rules, out);
    }

    /// Opens the session with everything that a request contains.
    pub(crate) fn open_subscribed(
        &mut self,
        identity: Identity,
        wanted: WantedSession<'_>,
        now: Now,
        rules: &Rules,
        out: &mut Vec<Effect>,
    ) {
        let WantedSession { named, channels, presence } = wanted;
        if !self.open_as(named, identity, now, rules, out) {
            return;
        }
        self.subscribe_all(channels, None, rules, out);
        out.extend(presence.iter().map(|channel| self.presence(channel, None, rules)));
    }

    /// Opens the session: as the named one if it belongs to this user, otherwise as a new one. Returns false if it is
    /// refused: the session is revoked, or the token was revoked after it was verified.
    fn open_as(
        &mut self,
        named: Option<SessionId>,
        identity: Identity,
        now: Now,
        rules: &Rules,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Identity { tenant, user, .. } = &identity;
        let own = named.filter(|named| name::is_of(*named, tenant, user));
        let verifier = rules.verifier.get();
        let revocations = verifier.revocations();
        if revocations.cover_token(identity.holder()) || own.is_some_and(|own| revocations.cover_session(own)) {
            close_revoked(out);
            return false;
        }
        self.id = own.unwrap_or_else(|| name::bind(self.id, tenant, user));
        let welcome = ServerFrame::Welcome(Welcome {
            session_id: self.id.to_string().into(),
            user: owned(identity.user.as_str()),
            tenant: owned(identity.tenant.as_str()),
            instance: owned(rules.instance.as_str()),
            expires_in_ms: rules.verifier.get().expires_in_ms(&identity, now.unix_ms),
            ping_interval_ms: rules.limits.ping_interval_ms,
            message_bytes_max: rules.limits.message_bytes_max,
            messages_per_second: rules.limits.messages_per_second,
            channels_max: CHANNELS_PER_CONNECTION_MAX,
        });
        out.extend([Effect::Send(Lane::CONTROL, welcome), Effect::Opened, Effect::Identified]);
        self.state = State::Open(identity);
        true
    }

    /// Handles one frame of the client.
    pub(crate) fn handle(
        &mut self,
        frame: Result<ClientFrame<'_>, BadFrame>,
        now: Now,
        rules: &Rules,
        out: &mut Vec<Effect>,
    ) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(BadFrame { code, message, correlation_id }) => {
                let id = correlation_id.as_deref();
                return match self.rate.take(rules.limits.rate, now.mono_ms) {
                    Ok(()) => out.push(refuse(code, &message, None, id)),
                    Err(retry_after_ms) => self.refuse_fast(retry_after_ms, id, rules, out),
                };
            }
        };
        let id = frame.correlation_id.as_deref();
        if let Err(retry_after_ms) = self.rate.take(rules.limits.rate, now.mono_ms) {
            return self.refuse_fast(retry_after_ms, id, rules, out);
        }
        self.refused = self.refused.saturating_sub(1);
        match frame.body {
            ClientBody::Ping => {
                let pong = ServerFrame::Pong { correlation_id: id.map(owned) };
                out.push(Effect::Send(Lane::CONTROL, pong));
            }
            ClientBody::Pong => {}
            ClientBody::Hello { token, session_id: named, restore, channels } => {
                let is_welcome = self.identity().is_some();
                if !self.hello(token.as_deref(), named, id, now, rules, out) {
                    return;
                }
                match named.filter(|_| restore) {
                    Some(named) if named == self.id => return self.restore(&channels, id, now, out),
                    Some(_) => out.extend([Effect::KeepRecord, self.not_restored(is_welcome, id)]),
                    None if restore => out.push(Effect::KeepRecord),
                    None => {}
                }
                self.subscribe_all(channels, id, rules, out);
            }
            body => match &self.state {
                State::AwaitHello { .. } => {
                    let message = "the first frame must be a hello with a token, because the upgrade had none";
                    out.push(refuse(ErrorCode::Unauthenticated, message, None, id));
                }
                State::Open(_) => self.handle_open(body, id, now, rules, out),
            },
        }
    }

    fn handle_open(&mut self, body: ClientBody<'_>, id: Option<&str>, now: Now, rules: &Rules, out: &mut Vec<Effect>) {
        if let Some(channel) = self.needs_valid_token(&body, now) {
            return out.push(refuse(ErrorCode::TokenExpired, EXPIRED, Some(channel), id));
        }
        match body {
            ClientBody::Subscribe(resume) => self.subscribe_all(vec![resume], id, rules, out),
            ClientBody::Unsubscribe { channel } => self.unsubscribe(&channel, id, rules, out),
            ClientBody::Publish { channel, id: name, message } => {
                let draft = PublishDraft { channel: &channel, id: name.as_deref(), message: &message };
                out.extend(self.publish(draft, id, now, rules));
            }
            ClientBody::Receipt { channel, position } => out.push(self.receipt(&channel, position, id, rules)),
            ClientBody::Presence { channel } => out.push(self.presence(&channel, id, rules)),
            ClientBody::Refresh { token } => drop(self.refresh(&token, id, now, rules, out)),
            ClientBody::Hello { .. } | ClientBody::Ping | ClientBody::Pong => {
                debug_assert!(false, "taken by handle");
            }
        }
    }

    /// The channel of a request that is refused because the token has expired. What needs no grant goes on.
    fn needs_valid_token<'f>(&self, body: &'f ClientBody<'_>, now: Now) -> Option<&'f str> {
        let channel = match body {
            ClientBody::Subscribe(Resume { channel, .. })
            | ClientBody::Publish { channel, .. }
            | ClientBody::Receipt { channel, .. }
            | ClientBody::Presence { channel } => channel,
            ClientBody::Unsubscribe { .. }
            | ClientBody::Refresh { .. }
            | ClientBody::Hello { .. }
            | ClientBody::Ping
            | ClientBody::Pong => return None,
        };
        self.is_expired(now).then_some(channel)
    }

    /// Handles a `hello`. Returns whether it was accepted, and so the session is open. The session continues as the
    /// named one if that belongs to its user.
    fn hello(
        &mut self,
        token: Option<&str>,
        named: Option<SessionId>,
        id: Option<&str>,
        now: Now,
        rules: &Rules,
        out: &mut Vec<Effect>,
    ) -> bool {
        let path_tenant = match (&self.state, token) {
            (State::Open(_), None) if self.is_expired(now) => {
                out.push(refuse(ErrorCode::TokenExpired, EXPIRED, None, id));
                return false;
            }
            (State::Open(_), token) => {
                let is_taken = token.is_none_or(|token| self.refresh(token, id, now, rules, out));
                return is_taken && self.go_on_as(named, rules, out);
            }
            (State::AwaitHello { .. }, None) => {
                let message = "this hello has no token, and the upgrade had none either";
                out.push(refuse(ErrorCode::Unauthenticated, message, None, id));
                return false;
            }
            (State::AwaitHello { tenant, .. }, Some(_)) => tenant.clone(),
        };
        let verified = rules.verifier.get().verify(token.unwrap_or_default(), now.unix_s());
        match verified {
            Err(error) => {
                out.extend([refused_token(&error, id), Effect::Close(error.close())]);
                false
            }
            Ok(identity) if path_tenant.as_ref().is_some_and(|tenant| *tenant != identity.tenant) => {
                let message = "the token belongs to another tenant than the path /ws/{tenant}";
                out.push(refuse(ErrorCode::WrongIdentity, message, None, id));
                out.push(Effect::Close(Close::WrongTenant));
                false
            }
            Ok(identity) => self.open_as(named, identity, now, rules, out),
        }
    }

    /// Continues an open session as an earlier one of its user. Another user's session id is ignored. Returns false if
    /// the named session is revoked.
    fn go_on_as(&mut self, named: Option<SessionId>, rules: &Rules, out: &mut Vec<Effect>) -> bool {
        let (Some(named), State::Open(Identity { tenant, user, .. })) = (named, &self.state) else { return true };
        if named != self.id && name::is_of(named, tenant, user) {
            if rules.verifier.get().revocations().cover_session(named) {
                close_revoked(out);
                return false;
            }
            self.id = named;
            if let Some(restoring) = &mut self.restoring {
                restoring.begin_again(); // It was waiting for the record of another session.
            }
            out.push(Effect::Identified);
        }
        true
    }

    /// Handles a new token for an open session. Tenant and user must be the same; the grants may differ. Subscriptions
    /// continue unless the new token does not allow them.
    fn refresh(&mut self, token: &str, id: Option<&str>, now: Now, rules: &Rules, out: &mut Vec<Effect>) -> bool {
        let State::Open(old) = &mut self.state else { return false };
        let new = match rules.verifier.get().verify(token, now.unix_s()) {
            Ok(new) => new,
            // The old token is still valid. The connection continues until it expires.
            Err(error) => {
                out.push(refused_token(&error, id));
                return false;
            }
        };
        if (&new.tenant, &new.user) != (&old.tenant, &old.user) {
            let message = "a session cannot change its tenant or user; open a new connection";
            out.push(refuse(ErrorCode::WrongIdentity, message, None, id));
            return false;
        }
        *old = new;
        self.is_told_of_expiry = false;
        let expires_in_ms = rules.verifier.get().expires_in_ms(old, now.unix_ms);
        let refreshed = ServerFrame::Refreshed { expires_in_ms, correlation_id: id.map(owned) };
        out.extend([Effect::Send(Lane::CONTROL, refreshed), Effect::Identified]);
        let identity = &*old;
        for subscription in self.subscriptions.extract_if(.., |s| !identity.may_subscribe(&s.pattern)) {
            let channel = subscription.pattern.to_string();
            let message = identity.why_not_subscribe(rules.policies.families(), &subscription.pattern);
            out.push(refuse(ErrorCode::Forbidden, &message, Some(&channel), None));
            out.push(unsubscribed(&subscription.pattern, &channel, None, rules));
            out.push(Effect::Leave(subscription));
        }
        true
    }

    fn publish(&self, draft: PublishDraft<'_>, id: Option<&str>, now: Now, rules: &Rules) -> Option<Effect> {
        let State::Open(identity) = &self.state else { return None };
        Some(match publish::admit(identity, &rules.policies, now, draft) {
            Ok(request) => Effect::Publish(request, id.map(Box::from)),
            Err((code, message)) => refuse(code, &message, Some(draft.channel), id),
        })
    }

    /// Handles a receipt. It applies to the whole scope, whichever of its channels the client names. The shard checks
    /// that the position has been sent.
    fn receipt(&self, text: &str, position: Position, id: Option<&str>, rules: &Rules) -> Effect {
        let keeps = |family| rules.policies.policy(family).receipts;
        match self.held_scope(text, rules, keeps, "this channel's family keeps no receipts") {
            Ok((identity, scope)) => {
                let receipt = Receipt { scope, user: identity.user.clone(), position };
                Effect::Receipt(ReceiptRequest { receipt, channel: text.into(), correlation_id: id.map(Box::from) })
            }
            Err((code, message)) => refuse(code, &message, Some(text), id),
        }
    }

    /// Handles a request for members. Presence also applies to the whole scope: a client that receives messages of a
    /// scope may know its other members.
    fn presence(&self, text: &str, id: Option<&str>, rules: &Rules) -> Effect {
        let has = |family| rules.policies.policy(family).presence;
        match self.held_scope(text, rules, has, "this channel's family has no presence") {
            Ok((_, scope)) => Effect::Presence(PresenceRequest { scope, correlation_id: id.map(Box::from) }),
            Err((code, message)) => refuse(code, &message, Some(text), id),
        }
    }

    /// The scope of a channel or pattern, if the client has a subscription in it and its family allows the request.
    fn held_scope(
        &self,
        text: &str,
        rules: &Rules,
        allows: impl Fn(FamilyIndex) -> bool,
        otherwise: &'static str,
    ) -> Result<(&Identity, Scope), (ErrorCode, Cow<'static, str>)> {
        let State::Open(identity) = &self.state else {
            return Err((ErrorCode::Unauthenticated, "the session is not open".into()));
        };
        let pattern = rules.policies.families().parse(&identity.tenant, text);
        let pattern = pattern.map_err(|error| (ErrorCode::InvalidChannel, Cow::Owned(error.to_string())))?;
        if !self.holds(&pattern.scope) {
            return Err((ErrorCode::NotSubscribed, "this connection has no subscription in this scope".into()));
        }
        match allows(pattern.scope.family()) {
            true => Ok((identity, pattern.scope)),
            false => Err((ErrorCode::InvalidField, otherwise.into())),
        }
    }

    /// Whether the client has a subscription in a scope.
    pub(crate) fn holds(&self, scope: &Scope) -> bool {
        self.subscriptions.iter().any(|s| s.pattern.scope == *scope)
    }

    fn refuse_fast(&mut self, retry_after_ms: u64, id: Option<&str>, rules: &Rules, out: &mut Vec<Effect>) {
        self.refused = self.refused.saturating_add(1);
        let error = ServerFrame::Error {
            code: ErrorCode::RateLimited,
            message: "more frames than this connection's rate; this one was dropped".into(),
            channel: None,
            retry_after_ms: Some(retry_after_ms),
            correlation_id: id.map(owned),
        };
        out.push(Effect::Refuse(error));
        if self.refused >= rules.limits.messages_per_second.saturating_mul(REFUSED_SECONDS_MAX) {
            out.push(Effect::Close(Close::RateLimited));
        }
    }

    fn find(&self, pattern: &Pattern) -> Option<usize> {
        self.subscriptions.iter().position(|s| s.pattern == *pattern)
    }
}

fn close_revoked(out: &mut Vec<Effect>) {
    out.extend([refuse(ErrorCode::Revoked, REVOKED, None, None), Effect::Close(Close::Revoked)]);
}

fn refused_token(error: &TokenError, id: Option<&str>) -> Effect {
    Effect::Refuse(ServerFrame::Error {
        code: error.code(),
        message: error.to_string().into(),
        channel: None,
        retry_after_ms: error.retry_after_ms(),
        correlation_id: id.map(owned),
    })
}
