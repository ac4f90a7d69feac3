//! A message as backends write it, as Redis keeps it, and as receivers get it.
//!
//! Backends write `{"type":…,"payload":…,"timestamp":…,"correlation_id":…}`, the envelope without what only the
//! gateway knows. A gateway adds `channel` and `position`, once, and the result is the frame of every receiver.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::binary::split_binary;
use crate::channel::Scope;
use crate::limits::{BINARY_HEADER_BYTES_MAX, TYPE_BYTES_MAX};
use crate::object::Object;
use crate::position::Position;
use crate::timestamp::Timestamp;

/// The `type`s of control frames, which a message may not take.
const CONTROL_TYPES: [&str; 24] = [
    "hello",
    "welcome",
    "restored",
    "subscribe",
    "subscribed",
    "unsubscribe",
    "unsubscribed",
    "publish",
    "ack",
    "error",
    "receipt",
    "presence",
    "joined",
    "left",
    "refresh",
    "refreshed",
    "ping",
    "pong",
    "position",
    "gap",
    "degraded",
    "reconnect",
    "notice",
    "bye",
];

/// By how much a gateway may lengthen the JSON header of a binary message: a channel, a timestamp, a position.
/// The longest are a scope of 257 bytes with a topic of 256, 24 bytes and 41.
const HEADER_GROWTH_BYTES_MAX: usize = 1024;

/// Why a message cannot be delivered. It is counted and left out; the channel goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Not the JSON object described in `docs/protocol.md`.
    #[error("not a message: {0}")]
    Json(String),
    /// A `type` outside the grammar, or one that control frames use.
    #[error("a message type has 1 to {TYPE_BYTES_MAX} letters, digits, and _ . : - and is none of the control types")]
    Type,
    /// A timestamp that is not RFC 3339.
    #[error("a timestamp is RFC 3339, such as 2026-11-20T12:00:00.000Z")]
    Timestamp,
    /// A broken binary frame, or one whose header would grow past two bytes' length.
    #[error("a binary message is version 1, a two-byte header length, a JSON header and a payload")]
    Binary,
}

/// A message before it has a place: what a publisher says.
#[derive(Debug, Clone)]
pub struct MessageDraft<'a> {
    /// The `type` receivers see.
    pub kind: Cow<'a, str>,
    /// JSON, taken over byte by byte; `null` when absent.
    pub payload: Option<&'a RawValue>,
    /// Bytes instead of JSON: the message becomes a binary frame.
    pub binary: Option<&'a [u8]>,
    /// The publisher's own time, if it has one.
    pub timestamp: Option<Cow<'a, str>>,
    /// The publisher's own id, if it has one.
    pub correlation_id: Option<Cow<'a, str>>,
}

impl MessageDraft<'_> {
    /// The bytes that Redis keeps, and that `FCALL tidegate_publish` takes from any language.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload_len = self.payload.map_or(4, |p| p.get().len()) + self.binary.map_or(0, <[u8]>::len);
        let mut out = Vec::with_capacity(payload_len + self.kind.len() + 64);
        if self.binary.is_some() {
            out.extend_from_slice(&[1, 0, 0]);
        }
        out.extend_from_slice(br#"{"type":"#);
        write_json_string(&mut out, &self.kind);
        if self.binary.is_none() {
            out.extend_from_slice(br#","payload":"#);
            out.extend_from_slice(self.payload.map_or("null", RawValue::get).as_bytes());
        }
        for (name, value) in [("timestamp", &self.timestamp), ("correlation_id", &self.correlation_id)] {
            if let Some(value) = value {
                out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
                write_json_string(&mut out, value);
            }
        }
        out.push(b'}');
        if let Some(binary) = self.binary {
            let header = u16::try_from(out.len() - 3).expect("type, timestamp and id are bounded");
            out[1..3].copy_from_slice(&header.to_be_bytes());
            out.extend_from_slice(binary);
        }
        out
    }
}

/// A message as Redis hands it to a gateway: read once, encoded once.
#[derive(Debug)]
pub struct Message<'a> {
    header: Header<'a>,
    binary: Option<&'a [u8]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// Reads what a publisher stored.
    ///
    /// # Errors
    /// When it is not a message; publishers in other languages may store anything.
    ///
    /// ```
    /// use wire::Message;
    /// assert!(Message::parse(br#"{"type":"op.applied","payload":{"n":1}}"#).is_ok());
    /// assert!(Message::parse(br#"{"type":"error"}"#).is_err());
    /// assert!(Message::parse(b"hello").is_err());
    /// ```
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadMessage> {
        let (header, binary) = match bytes.first() {
            Some(b'{') | None => (bytes, None),
            Some(_) => {
                let (header, payload) = split_binary(bytes).ok_or_else(|| match bytes[0] {
                    1 => BadMessage::Binary,
                    _ => BadMessage::Json("it does not begin with {".into()),
                })?;
                (header, Some(payload))
            }
        };
        if binary.is_some() && header.len() > BINARY_HEADER_BYTES_MAX - HEADER_GROWTH_BYTES_MAX {
            return Err(BadMessage::Binary);
        }
        let Object(header): Object<Header<'a>> =
            serde_json::from_slice(header).map_err(|e| BadMessage::Json(e.to_string()))?;
        check_type(&header.kind)?;
        if let Some(timestamp) = header.timestamp.as_deref() {
            check_timestamp(timestamp)?;
        }
        if binary.is_some() && header.payload.is_some() {
            return Err(BadMessage::Binary);
        }
        Ok(Self { header, binary })
    }

    /// The `type` receivers see.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.header.kind
    }

    /// Whether receivers get a binary frame.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.binary.is_some()
    }

    /// How many bytes [`Message::write`] appends, about.
    #[must_use]
    pub fn size_hint(&self, scope: &Scope, topic: &str) -> usize {
        let payload = self.header.payload.map_or(4, |p| p.get().len()) + self.binary.map_or(0, <[u8]>::len);
        payload + self.header.kind.len() + scope.as_str().len() + topic.len() + 192
    }

    /// Appends what receivers get: JSON, or for a binary message its header length, header and payload. `position` is
    /// absent for messages that never enter history; `published` is the timestamp where the publisher gave none.
    ///
    /// ```
    /// use wire::{Families, Message, Position, TenantId, Timestamp};
    /// let channel = Families::default().parse_channel(&TenantId::default(), "system:news").unwrap();
    /// let message = Message::parse(br#"{"type":"news","payload":{"n":1}}"#).unwrap();
    /// let mut out = Vec::new();
    /// message.write(&channel.scope, channel.topic(), Timestamp(0), Some(Position::new(7, 2)), &mut out);
    /// assert_eq!(out, concat!(r#"{"type":"news","channel":"system:news","payload":{"n":1},"#,
    ///     r#""timestamp":"1970-01-01T00:00:00.000Z","position":"7-2"}"#).as_bytes());
    /// ```
    pub fn write(
        &self,
        scope: &Scope,
        topic: &str,
        published: Timestamp,
        position: Option<Position>,
        out: &mut Vec<u8>,
    ) {
        let Header { kind, payload, timestamp, correlation_id } = &self.header;
        let start = out.len();
        if self.binary.is_some() {
            out.extend_from_slice(&[1, 0, 0]);
        }
        // Types, scopes and topics are checked names: nothing in them needs escaping.
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","channel":""#);
        out.extend_from_slice(scope.name().as_bytes());
        if !topic.is_empty() {
            out.push(b':');
            out.extend_from_slice(topic.as_bytes());
        }
        out.push(b'"');
        if self.binary.is_none() {
            out.extend_from_slice(br#","payload":"#);
            out.extend_from_slice(payload.map_or("null", RawValue::get).as_bytes());
        }
        out.extend_from_slice(br#","timestamp":"#);
        match timestamp {
            Some(text) => write_json_string(out, text),
            None => {
                out.push(b'"');
                published.write(out);
                out.push(b'"');
            }
        }
        if let Some(text) = correlation_id {
            out.extend_from_slice(br#","correlation_id":"#);
            write_json_string(out, text);
        }
        if let Some(position) = position {
            use std::io::Write as _;
            write!(out, r#","position":"{position}""#).expect("a Vec takes everything");
        }
        out.push(b'}');
        let Some(binary) = self.binary else { return };
        let header = u16::try_from(out.len() - start - 3).unwrap_or(u16::MAX);
        debug_assert!((header as usize) < BINARY_HEADER_BYTES_MAX, "checked by parse");
        out[start + 1..start + 3].copy_from_slice(&header.to_be_bytes());
        out.extend_from_slice(binary);
    }
}

/// A message type: 1 to [`TYPE_BYTES_MAX`] letters, digits and `_ . : -`, and none of the control types.
pub(crate) fn check_type(kind: &str) -> Result<(), BadMessage> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
    let shaped = (1..=TYPE_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(allowed);
    if shaped && !CONTROL_TYPES.contains(&kind) { Ok(()) } else { Err(BadMessage::Type) }
}

/// RFC 3339: a day of the calendar, a time of the day, and `Z` or an offset. Readers in other languages fail on anything
/// else.
pub(crate) fn check_timestamp(text: &str) -> Result<(), BadMessage> {
    let bytes = text.as_bytes();
    let shape = |bytes: &[u8], template: &[u8]| {
        bytes.len() == template.len()
            && bytes.iter().zip(template).all(|(b, t)| if *t == b'0' { b.is_ascii_digit() } else { b == t })
    };
    let zone = |rest: &[u8]| rest == b"Z" || shape(rest, b"+00:00") || shape(rest, b"-00:00");
    let Some((head, rest)) = bytes.split_at_checked(19) else { return Err(BadMessage::Timestamp) };
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return Err(BadMessage::Timestamp);
            }
            &fraction[digits..]
        }
        _ => rest,
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    let is_time = |head: &[u8]| {
        let [year, month, day] = [&head[..4], &head[5..7], &head[8..10]].map(number);
        let [hour, minute, second] = [&head[11..13], &head[14..16], &head[17..]].map(number);
        // §5.6: second 60 is a leap second. It ends an hour, half an hour or a quarter, by zone.
        (1..=days_of(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && (second < 60 || second == 60 && minute % 15 == 14)
    };
    let is_offset = |rest: &[u8]| rest == b"Z" || number(&rest[1..3]) < 24 && number(&rest[4..]) < 60;
    let is_valid = shape(head, b"0000-00-00T00:00:00") && zone(rest) && is_time(head) && is_offset(rest);
    if is_valid { Ok(()) } else { Err(BadMessage::Timestamp) }
}

/// Days of a month of the Gregorian calendar; 0 if there is no such month.
const fn days_of(year: u32, month: u32) -> u32 {
    let is_leap_year = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap_year => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

pub(crate) fn write_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::check_timestamp;

    #[test]
    fn a_timestamp_is_a_day_of_the_calendar_and_a_time_of_the_day() {
        for text in [
            "2024-02-29T00:00:00Z",
            "2000-02-29T00:00:00Z",
            "2026-12-31T23:59:59.999999999Z",
            "2016-12-31T23:59:60Z",
            "2017-01-01T05:29:60+05:30",
            "2026-04-30T12:00:00+14:00",
            "0001-01-01T00:00:00-23:59",
        ] {
            assert!(check_timestamp(text).is_ok(), "{text}");
        }
        for text in [
            "2026-02-30T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "1900-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-00-10T12:00:00Z",
            "2026-13-10T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-32T12:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:60:00Z",
            "2026-01-01T12:00:60Z",
            "2026-01-01T12:00:61Z",
            "2026-01-01T12:00:00+24:00",
            "2026-01-01T12:00:00-01:60",
        ] {
            assert!(check_timestamp(text).is_err(), "{text}");
        }
    }
}
