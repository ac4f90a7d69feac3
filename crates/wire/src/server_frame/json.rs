//! Server frames as JSON.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{PresenceMember, ServerFrame};
use crate::position::Position;

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
    channels: Option<&'a [Cow<'a, str>]>,
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
        Self { user: &member.user, since: member.since.to_string(), info }
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
struct RefreshedPayload {
    expires_in_ms: u64,
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
    /// Appends the frame as JSON, on one line.
    ///
    /// ```
    /// use wire::ServerFrame;
    /// let mut json = Vec::new();
    /// ServerFrame::Pong { correlation_id: Some("p1".into()) }.write_json(&mut json);
    /// assert_eq!(json, br#"{"type":"pong","correlation_id":"p1"}"#);
    /// ```
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut shape = ShapeWriter { kind: self.kind(), out };
        match self {
            Self::Welcome(welcome) => shape.write(None, Some(welcome), None, None),
            Self::Restored { record, session_id, correlation_id } => {
                let record = record.as_ref();
                let (repeats, channels) = (record.map(|r| r.repeats), record.map(|r| &*r.channels));
                let session_id = session_id.as_deref();
                let payload = RestoredPayload { found: record.is_some(), repeats, channels, session_id };
                shape.write(None, Some(payload), correlation_id.as_deref(), None);
            }
            Self::Subscribed { channel, position, resumed, degraded, correlation_id } => {
                let payload = SubscribedPayload { resumed: *resumed, degraded: *degraded };
                shape.write(Some(channel), Some(payload), correlation_id.as_deref(), *position);
            }
            Self::Unsubscribed { channel, correlation_id } => {
                shape.bare(Some(channel), correlation_id.as_deref(), None)
            }
            Self::Ack { channel, position, level, duplicate, correlation_id } => {
                let payload = AckPayload { level: level.as_str(), duplicate: *duplicate };
                shape.write(Some(channel), Some(payload), correlation_id.as_deref(), *position);
            }
            Self::Receipt { channel, position, correlation_id } => {
                shape.bare(Some(channel), correlation_id.as_deref(), Some(*position));
            }
            Self::Presence { channel, count, members, stale, correlation_id } => {
                let members = members.iter().map(MemberPayload::from).collect();
                let payload = PresencePayload { count: *count, members, stale: *stale };
                shape.write(Some(channel), Some(payload), correlation_id.as_deref(), None);
            }
            Self::Joined { channel, member, count } => {
                let MemberPayload { user, since, info } = member.into();
                let payload = JoinedPayload { user, since, info, count: *count };
                shape.write(Some(channel), Some(payload), None, None);
            }
            Self::Left { channel, user, count } => {
                shape.write(Some(channel), Some(LeftPayload { user, count: *count }), None, None);
            }
            Self::Error { code, message, channel, retry_after_ms, correlation_id } => {
                let (retryable, retry_after_ms) = (code.retryable(), *retry_after_ms);
                let payload = ErrorPayload { code: code.as_str(), message, retryable, retry_after_ms };
                shape.write(channel.as_deref(), Some(payload), correlation_id.as_deref(), None);
            }
            Self::Refreshed { expires_in_ms, correlation_id } => {
                let payload = RefreshedPayload { expires_in_ms: *expires_in_ms };
                shape.write(None, Some(payload), correlation_id.as_deref(), None);
            }
            Self::Pong { correlation_id } => shape.bare(None, correlation_id.as_deref(), None),
            Self::Position { channel, position } => shape.bare(Some(channel), None, Some(*position)),
            Self::Gap { channel, after, upto, reason, certain } => {
                let text = |position: &Option<Position>| position.map(|p| p.to_string());
                let (after, upto) = (text(after), text(upto));
                let payload = GapPayload { after, upto, reason: reason.as_str(), certain: *certain };
                shape.write(Some(channel), Some(payload), None, None);
            }
            Self::Degraded { degraded } => {
                shape.write(None, Some(DegradedPayload { degraded: *degraded }), None, None);
            }
            Self::Reconnect { after_ms } => {
                shape.write(None, Some(ReconnectPayload { after_ms: *after_ms }), None, None);
            }
            Self::Notice(notice) => shape.write(None, Some(notice), None, None),
            Self::Bye { code, reason } => {
                let payload = ByePayload { code: *code, reason, reconnect: crate::Close::should_reconnect(*code) };
                shape.write(None, Some(payload), None, None);
            }
        }
    }
}

/// Writes one frame.
struct ShapeWriter<'o> {
    kind: &'static str,
    out: &'o mut Vec<u8>,
}

impl ShapeWriter<'_> {
    fn write<P: Serialize>(
        &mut self,
        channel: Option<&str>,
        payload: Option<P>,
        correlation_id: Option<&str>,
        position: Option<Position>,
    ) {
        let position = position.map(|p| p.to_string());
        let shape = Shape { kind: self.kind, channel, payload, correlation_id, position };
        serde_json::to_writer(&mut *self.out, &shape).expect("these shapes are JSON and a Vec takes everything");
    }

    /// Writes a frame without a payload.
    fn bare(&mut self, channel: Option<&str>, correlation_id: Option<&str>, position: Option<Position>) {
        self.write::<()>(channel, None, correlation_id, position);
    }
}
