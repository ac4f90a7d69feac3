//! The frames that a client may send.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::binary::split_binary;
use crate::error_code::ErrorCode;
use crate::id::SessionId;
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, CORRELATION_ID_BYTES_MAX, PUBLISH_ID_BYTES_MAX};
use crate::message::{MessageDraft, check_timestamp, check_type};
use crate::object::Object;
use crate::position::Position;

/// One frame from a client: the request, and the id that its answer carries.
#[derive(Debug)]
pub struct ClientFrame<'a> {
    /// The gateway copies this id into the answer, whether it is a success or an error.
    pub correlation_id: Option<Cow<'a, str>>,
    /// The request, with the fields that it uses.
    pub body: ClientBody<'a>,
}

/// The requests that a client may send. The list is closed.
#[derive(Debug)]
pub enum ClientBody<'a> {
    /// Opens the session: who the client is and what it subscribes to, in one round trip.
    Hello {
        /// The token; none if the upgrade request carried one.
        token: Option<Cow<'a, str>>,
        /// The earlier session that continues on this connection; none for a new session.
        session_id: Option<SessionId>,
        /// Record the subscriptions of this session when its connection ends, and restore those of the session that
        /// `session_id` names.
        restore: bool,
        /// The channels and patterns to subscribe to, each with the position to resume from.
        channels: Vec<Resume<'a>>,
    },
    /// Adds one channel or pattern.
    Subscribe(Resume<'a>),
    /// Ends the subscription to one channel or pattern.
    Unsubscribe {
        /// The channel or pattern, as the client wrote it when it subscribed.
        channel: Cow<'a, str>,
    },
    /// Publishes a message to a channel.
    Publish {
        /// The target: one channel, not a pattern.
        channel: Cow<'a, str>,
        /// The client's own id for the message. A second message with the same id is not stored for at least 2 minutes.
        id: Option<Cow<'a, str>>,
        /// Type, payload and other fields of the message.
        message: MessageDraft<'a>,
    },
    /// A receipt: the client has processed everything up to `position` that it was sent in the scope of the channel.
    Receipt {
        /// A channel or pattern that the client is subscribed to, or another of the same scope.
        channel: Cow<'a, str>,
        /// The position of the last processed message or of a `position` frame.
        position: Position,
    },
    /// Asks for the members of the scope of the channel, now and for every later change.
    Presence {
        /// A channel or pattern that the client is subscribed to, or another of the same scope.
        channel: Cow<'a, str>,
    },
    /// Replaces the token by a new one for the same tenant and user.
    Refresh {
        /// The token that replaces the old one.
        token: Cow<'a, str>,
    },
    /// Asks for a `pong`.
    Ping,
    /// Answers a ping. The gateway takes it and does not answer.
    Pong,
}

/// A channel or pattern, and the last position that the client saw there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume<'a> {
    /// The channel or pattern as the client wrote it.
    pub channel: Cow<'a, str>,
    /// The last position seen. Without one the subscription starts now.
    pub position: Option<Position>,
}

/// The answer to a frame that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame {
    /// The code of the `error` frame.
    pub code: ErrorCode,
    /// The text of the `error` frame.
    pub message: String,
    /// The id of the refused frame, if it could be read.
    pub correlation_id: Option<String>,
}

/// The JSON shape that all frames share. An unknown field is refused by name, so that a typo gives an error instead of
/// being ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHello<'a> {
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    restore: Option<bool>,
    #[serde(borrow, default)]
    channels: Vec<Object<RawResume<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResume<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRefresh<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

/// Reads only the id, from a frame that has an error elsewhere.
#[derive(Deserialize)]
struct JustTheId<'a> {
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
}

impl<'a> ClientFrame<'a> {
    /// Reads a text frame.
    ///
    /// # Errors
    /// Returns the code and the text of the answer.
    ///
    /// ```
    /// use wire::{ClientBody, ClientFrame, ErrorCode};
    /// let frame = ClientFrame::parse(r#"{"type":"subscribe","channel":"system:*","correlation_id":"c1"}"#).unwrap();
    /// assert!(matches!(frame.body, ClientBody::Subscribe(resume) if resume.channel == "system:*"));
    /// let bad = ClientFrame::parse(r#"{"type":"dance","correlation_id":"c2"}"#).unwrap_err();
    /// assert_eq!(bad.code, ErrorCode::UnknownType);
    /// assert_eq!(bad.correlation_id.as_deref(), Some("c2"));
    /// ```
    pub fn parse(text: &'a str) -> Result<Self, BadFrame> {
        let raw = read(text)?;
        Self::from_raw(raw, None)
    }

    /// Reads a binary frame: version, header length, JSON header, payload. Only `publish` may be binary.
    ///
    /// # Errors
    /// Returns the code and the text of the answer.
    ///
    /// ```
    /// use wire::{ClientBody, ClientFrame};
    /// let header = br#"{"type":"publish","channel":"user:7:scan"}"#;
    /// let frame = [&[1, 0, header.len() as u8], &header[..], b"\xff\xfe"].concat();
    /// let frame = ClientFrame::parse_binary(&frame).unwrap();
    /// assert!(matches!(frame.body, ClientBody::Publish { .. }));
    /// assert!(ClientFrame::parse_binary(b"\x02\x00\x00").is_err());
    /// ```
    pub fn parse_binary(bytes: &'a [u8]) -> Result<Self, BadFrame> {
        let malformed = |message: &str| BadFrame::new(ErrorCode::Malformed, message);
        let (header, payload) = split_binary(bytes).ok_or_else(|| {
            malformed("a binary frame is version 1, a two-byte header length, a JSON header and a payload")
        })?;
        let header =
            std::str::from_utf8(header).map_err(|_| malformed("the header of a binary frame is JSON in UTF-8"))?;
        let raw = read(header)?;
        if raw.kind != "publish" {
            return Err(raw.bad(ErrorCode::InvalidField, "only publish may be a binary frame"));
        }
        if raw.payload.is_some() {
            return Err(
                raw.bad(ErrorCode::InvalidField, "a binary frame carries its payload after the header, not in it")
            );
        }
        Self::from_raw(raw, Some(payload))
    }

    fn from_raw(raw: RawFrame<'a>, binary: Option<&'a [u8]>) -> Result<Self, BadFrame> {
        if raw.correlation_id.as_ref().is_some_and(|id| id.len() > CORRELATION_ID_BYTES_MAX) {
            let message = format!("a correlation_id has at most {CORRELATION_ID_BYTES_MAX} bytes");
            return Err(BadFrame::new(ErrorCode::InvalidField, message));
        }
        let body = match &*raw.kind {
            "hello" => read_hello(&raw)?,
            "subscribe" => ClientBody::Subscribe(Resume {
                channel: raw.wanted_channel()?,
                position: raw.read_position(raw.position.as_deref())?,
            }),
            "unsubscribe" => ClientBody::Unsubscribe { channel: raw.wanted_channel()? },
            "publish" => read_publish(&raw, binary)?,
            "receipt" => ClientBody::Receipt {
                channel: raw.wanted_channel()?,
                position: raw
                    .read_position(raw.position.as_deref())?
                    .ok_or_else(|| raw.bad(ErrorCode::InvalidField, "receipt needs the field \"position\""))?,
            },
            "presence" => ClientBody::Presence { channel: raw.wanted_channel()? },
            "refresh" => {
                let refresh: RawRefresh<'a> = raw.read_payload(r#"{"token": "…"}"#)?;
                ClientBody::Refresh { token: refresh.token }
            }
            "ping" => ClientBody::Ping,
            "pong" => ClientBody::Pong,
            other => {
                let other: String = other.chars().take(64).collect();
                let message = format!(
                    "clients do not send {other:?}; they send hello, subscribe, unsubscribe, publish, receipt, presence, refresh, ping and pong"
                );
                return Err(raw.bad(ErrorCode::UnknownType, message));
            }
        };
        Ok(Self { correlation_id: raw.correlation_id, body })
    }
}

impl BadFrame {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), correlation_id: None }
    }
}

impl<'a> RawFrame<'a> {
    fn bad(&self, code: ErrorCode, message: impl Into<String>) -> BadFrame {
        let correlation_id = self.correlation_id.as_deref().map(String::from);
        BadFrame { code, message: message.into(), correlation_id }
    }

    fn wanted_channel(&self) -> Result<Cow<'a, str>, BadFrame> {
        self.channel
            .clone()
            .ok_or_else(|| self.bad(ErrorCode::InvalidField, format!("{} needs the field \"channel\"", self.kind)))
    }

    fn read_position(&self, text: Option<&str>) -> Result<Option<Position>, BadFrame> {
        let parsed = text.map(str::parse::<Position>).transpose();
        parsed.map_err(|e| self.bad(ErrorCode::InvalidPosition, e.to_string()))
    }

    fn read_payload<T: Deserialize<'a>>(&self, shape: &str) -> Result<T, BadFrame> {
        let text = self.payload.map_or("{}", RawValue::get);
        let object: Result<Object<T>, _> = serde_json::from_str(text);
        object.map(|Object(payload)| payload).map_err(|e| {
            self.bad(ErrorCode::InvalidField, format!("the payload of {} is {shape}: {}", self.kind, error_text(&e)))
        })
    }
}

fn read(text: &str) -> Result<RawFrame<'_>, BadFrame> {
    let object: Result<Object<RawFrame<'_>>, _> = serde_json::from_str(text);
    object.map(|Object(frame)| frame).map_err(|e| {
        let code = match e.classify() {
            serde_json::error::Category::Data if text.trim_start().starts_with('{') => ErrorCode::InvalidField,
            _ => ErrorCode::Malformed,
        };
        let correlation_id = serde_json::from_str::<JustTheId<'_>>(text)
            .ok()
            .and_then(|just| just.correlation_id)
            .filter(|id| id.len() <= CORRELATION_ID_BYTES_MAX);
        let message = format!("a frame is one JSON object of the documented shape: {}", error_text(&e));
        BadFrame { code, message, correlation_id: correlation_id.map(Cow::into_owned) }
    })
}

/// The error text of serde_json, cut after 256 characters: it may quote what the client sent.
fn error_text(error: &serde_json::Error) -> String {
    error.to_string().chars().take(256).collect()
}

fn read_hello<'a>(raw: &RawFrame<'a>) -> Result<ClientBody<'a>, BadFrame> {
    let hello: RawHello<'a> = raw.read_payload(
        r#"{"token": "…", "session_id": "…", "restore": true, "channels": [{"channel": "…", "position": "…"}]}"#,
    )?;
    let session_id = hello.session_id.as_deref().map(|text| {
        let problem = || raw.bad(ErrorCode::InvalidField, "a session_id is 32 hexadecimal digits, as welcome gave it");
        SessionId::parse(text).ok_or_else(problem)
    });
    let session_id = session_id.transpose()?;
    if hello.channels.len() > CHANNELS_PER_CONNECTION_MAX {
        let message = format!("a connection holds at most {CHANNELS_PER_CONNECTION_MAX} channels");
        return Err(raw.bad(ErrorCode::TooManyChannels, message));
    }
    let mut channels = Vec::with_capacity(hello.channels.len());
    for Object(entry) in hello.channels {
        let position = raw.read_position(entry.position.as_deref())?;
        channels.push(Resume { channel: entry.channel, position });
    }
    Ok(ClientBody::Hello { token: hello.token, session_id, restore: hello.restore.unwrap_or(false), channels })
}

fn read_publish<'a>(raw: &RawFrame<'a>, binary: Option<&'a [u8]>) -> Result<ClientBody<'a>, BadFrame> {
    let kind = raw.event.clone().unwrap_or(Cow::Borrowed("message"));
    check_type(&kind).map_err(|e| raw.bad(ErrorCode::InvalidField, format!("event: {e}")))?;
    if let Some(text) = raw.timestamp.as_deref() {
        check_timestamp(text).map_err(|e| raw.bad(ErrorCode::InvalidField, e.to_string()))?;
    }
    if raw.id.as_ref().is_some_and(|id| id.is_empty() || id.len() > PUBLISH_ID_BYTES_MAX) {
        return Err(raw.bad(ErrorCode::InvalidField, format!("an id has 1 to {PUBLISH_ID_BYTES_MAX} bytes")));
    }
    let message = MessageDraft {
        kind,
        payload: raw.payload,
        binary,
        timestamp: raw.timestamp.clone(),
        correlation_id: raw.correlation_id.clone(),
    };
    Ok(ClientBody::Publish { channel: raw.wanted_channel()?, id: raw.id.clone(), message })
}
