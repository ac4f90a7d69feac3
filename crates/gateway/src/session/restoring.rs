//! PURE. A session that waits for its earlier subscriptions: its `hello` is held back until the record has arrived.

use std::borrow::Cow;

use connection_registry::SessionRecord;
use wire::{CHANNELS_PER_CONNECTION_MAX, ErrorCode, Position, Restored, Resume, ServerFrame};

use super::effect::owned;
use super::{EXPIRED, Effect, Session, State, refuse};
use crate::host::clock::Now;
use crate::session::rules::Lane;
use crate::session::rules::Rules;

/// After this time, in milliseconds, the client is told to ask again.
const RESTORE_TIMEOUT_MS: u64 = 6_000;

/// What the session does when the record has arrived.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    /// The deadline, in milliseconds.
    until_ms: u64,
    /// Whether the record has been requested.
    is_asked: bool,
    /// The channels that the `hello` named.
    channels: Vec<(Box<str>, Option<Position>)>,
    correlation_id: Option<Box<str>>,
}

impl Restoring {
    /// Holds back the channels of a `hello`.
    fn hold(&mut self, channels: &[Resume<'_>]) {
        self.channels.extend(channels.iter().map(|resume| (Box::from(&*resume.channel), resume.position)));
    }

    /// The session waits for another record, which has not been requested yet.
    pub(super) fn begin_again(&mut self) {
        self.is_asked = false;
    }

    /// Adds the channels of the record. A channel in both keeps the position that the client named, or takes the
    /// record's.
    fn merge(&mut self, record: &SessionRecord) {
        for (channel, position) in &record.channels {
            match self.channels.iter_mut().find(|(named, _)| named == channel) {
                Some((_, named)) => *named = named.or(*position),
                None => self.channels.push((channel.clone(), *position)),
            }
        }
    }
}

impl Session {
    /// Holds back a `hello` until the record of its session has arrived. From then on the connection keeps the record
    /// up to date.
    pub(super) fn restore(&mut self, channels: &[Resume<'_>], id: Option<&str>, now: Now, out: &mut Vec<Effect>) {
        let restoring = self.restoring.get_or_insert_default();
        if restoring.channels.len() + channels.len() > CHANNELS_PER_CONNECTION_MAX {
            let message = format!("a connection holds at most {CHANNELS_PER_CONNECTION_MAX} channels");
            return out.push(refuse(ErrorCode::TooManyChannels, &message, None, id));
        }
        restoring.hold(channels);
        restoring.correlation_id = id.map(Box::from);
        restoring.until_ms = now.mono_ms + RESTORE_TIMEOUT_MS;
        out.push(Effect::Restore);
    }

    /// The deadline of the restore in progress, in milliseconds, and whether the record has been requested.
    pub(crate) fn restoring(&self) -> Option<(u64, bool)> {
        self.restoring.as_ref().map(|restoring| (restoring.until_ms, restoring.is_asked))
    }

    pub(crate) fn restore_asked(&mut self) {
        if let Some(restoring) = &mut self.restoring {
            restoring.is_asked = true;
        }
    }

    /// The record has arrived, or there is none.
    pub(crate) fn restored(&mut self, record: Option<SessionRecord>, rules: &Rules, out: &mut Vec<Effect>) {
        let (Some(mut restoring), State::Open(identity)) = (self.restoring.take(), &self.state) else { return };
        let id = restoring.correlation_id.take();
        let is_held = |channel: &str| {
            let pattern = rules.policies.families().parse(&identity.tenant, channel).ok();
            pattern.is_some_and(|pattern| self.find(&pattern).is_some())
        };
        let record = record.map(|mut record| {
            // The client has subscribed to them in the meantime.
            record.channels.retain(|(channel, _)| !is_held(channel));
            restoring.merge(&record);
            record
        });
        let restored_record = record.as_ref().map(|record| Restored {
            repeats: !record.exact,
            channels: record.channels.iter().map(|(channel, _)| owned(channel)).collect(),
        });
        let correlation_id = id.as_deref().map(owned);
        let reply = ServerFrame::Restored { record: restored_record, session_id: None, correlation_id };
        out.extend([Effect::Send(Lane::CONTROL, reply), Effect::Identified]);
        let resume = |(channel, position): &(Box<str>, Option<Position>)| Resume {
            channel: Cow::Owned(channel.to_string()),
            position: *position,
        };
        self.subscribe_all(restoring.channels.iter().map(resume).collect(), id.as_deref(), rules, out);
    }

    /// The reply when the named session belongs to another user. A client that already has a `welcome` also gets the id
    /// of the session that continues.
    pub(super) fn not_restored(&self, is_welcome: bool, id: Option<&str>) -> Effect {
        let session_id = is_welcome.then(|| self.id.to_string().into());
        let reply = ServerFrame::Restored { record: None, session_id, correlation_id: id.map(owned) };
        Effect::Send(Lane::CONTROL, reply)
    }

    /// Ends the restore if the token has expired while the session waited. Nothing of the `hello` is done: the client
    /// needs a new token, and asks again. Returns whether it has ended.
    pub(crate) fn end_expired_restore(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        if !self.is_expired(now) {
            return false;
        }
        let Some(restoring) = self.restoring.take() else { return false };
        let id = restoring.correlation_id.as_deref();
        out.extend([refuse(ErrorCode::TokenExpired, EXPIRED, None, id), Effect::Identified]);
        true
    }

    /// The record cannot be read now. The client is told to ask again; nothing of its `hello` is done until then.
    pub(crate) fn give_up_restoring(&mut self, out: &mut Vec<Effect>) {
        let Some(restoring) = self.restoring.take() else { return };
        let error = ServerFrame::Error {
            code: ErrorCode::Unavailable,
            message: "the subscriptions of this session cannot be restored now; send the same hello again".into(),
            channel: None,
            retry_after_ms: Some(1_000),
            correlation_id: restoring.correlation_id.as_deref().map(owned),
        };
        out.extend([Effect::Refuse(error), Effect::Identified]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_names_goes_before_what_the_record_says() {
        let at = |offset| Some(Position::new(7, offset));
        let named = |channel: &'static str, position| Resume { channel: channel.into(), position };
        let mut restoring = Restoring::default();
        restoring.hold(&[named("system", None), named("collection:1", at(9)), named("collection:2", None)]);
        let channels = vec![("collection:1".into(), at(3)), ("system".into(), at(4)), ("user:7".into(), at(5))];
        restoring.merge(&SessionRecord { channels, exact: true });
        let expected = [("system", at(4)), ("collection:1", at(9)), ("collection:2", None), ("user:7", at(5))];
        assert_eq!(restoring.channels, expected.map(|(channel, position)| (channel.into(), position)));
    }
}
