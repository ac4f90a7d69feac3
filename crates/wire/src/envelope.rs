//! The envelope: the format of published messages on Redis pub/sub. It carries a version.
//!
//! ```text
//!   1 SP generation SP first-offset SP time-ms LF          version 1: one batch of one scope
//!   topic SP byte-length LF message                        one or more, at consecutive offsets
//! ```
//!
//! The Redis function that publishes writes it. The pub/sub channel on which it arrives names the scope.

use crate::position::Position;
use crate::timestamp::Timestamp;

/// The messages of one publish call, at consecutive positions.
///
/// ```
/// use wire::{Envelope, Position};
/// let bytes = b"1 7 41 1000\nops 2\n{}ops:cursor 4\n{  }";
/// let envelope = Envelope::parse(bytes).unwrap();
/// let items: Vec<_> = envelope.items().collect::<Result<_, _>>().unwrap();
/// assert_eq!(items[1], (Position::new(7, 42), "ops:cursor", &b"{  }"[..]));
/// assert!(Envelope::parse(b"2 7 41 1000\n").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Position of the first message.
    pub first: Position,
    /// Time of storing by Redis' clock.
    pub time: Timestamp,
    body: &'a [u8],
}

/// The bytes on the pub/sub channel of a scope are not an envelope that this gateway reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// The version is another one or missing: a newer publisher, or a plain `PUBLISH`.
    #[error("the envelope has a version that this gateway does not read")]
    Version,
    /// The bytes are cut off, or do not have the documented format.
    #[error("the envelope is malformed")]
    Shape,
}

impl<'a> Envelope<'a> {
    /// Reads the first line. [`Self::items`] reads the messages.
    ///
    /// # Errors
    /// Fails if the bytes have another version or break the format.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadEnvelope> {
        let Some(rest) = bytes.strip_prefix(b"1 ") else { return Err(BadEnvelope::Version) };
        let (line, body) = split_at_byte(rest, b'\n').ok_or(BadEnvelope::Shape)?;
        let (generation, line) = split_at_byte(line, b' ').ok_or(BadEnvelope::Shape)?;
        let (offset, time) = split_at_byte(line, b' ').ok_or(BadEnvelope::Shape)?;
        let first = Position::new(decimal(generation)?, decimal(offset)?);
        Ok(Self { first, time: Timestamp(decimal(time)?), body })
    }

    /// The messages in order, each as position, topic and bytes.
    #[must_use]
    pub fn items(&self) -> EnvelopeItems<'a> {
        EnvelopeItems { next: self.first, rest: self.body }
    }

    /// Writes an envelope, for brokers without Redis. On Redis the function does this in Lua.
    pub fn write<'m>(first: Position, time: Timestamp, items: impl Iterator<Item = (&'m str, &'m [u8])>) -> Vec<u8> {
        let mut out = format!("1 {} {} {}\n", first.generation, first.offset, time.0).into_bytes();
        for (topic, message) in items {
            out.extend_from_slice(format!("{topic} {}\n", message.len()).as_bytes());
            out.extend_from_slice(message);
        }
        out
    }
}

/// Iterates over the messages of an [`Envelope`].
#[derive(Debug, Clone)]
pub struct EnvelopeItems<'a> {
    next: Position,
    rest: &'a [u8],
}

impl<'a> Iterator for EnvelopeItems<'a> {
    type Item = Result<(Position, &'a str, &'a [u8]), BadEnvelope>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = read_item(self.rest);
        self.rest = item.map_or(&[], |(_, _, rest)| rest);
        let position = self.next;
        self.next = position.next();
        Some(item.map(|(topic, message, _)| (position, topic, message)))
    }
}

fn read_item(bytes: &[u8]) -> Result<(&str, &[u8], &[u8]), BadEnvelope> {
    let (line, rest) = split_at_byte(bytes, b'\n').ok_or(BadEnvelope::Shape)?;
    let (topic, len) = split_at_byte(line, b' ').ok_or(BadEnvelope::Shape)?;
    let topic = std::str::from_utf8(topic).map_err(|_| BadEnvelope::Shape)?;
    let len = usize::try_from(decimal(len)?).map_err(|_| BadEnvelope::Shape)?;
    let (message, rest) = rest.split_at_checked(len).ok_or(BadEnvelope::Shape)?;
    Ok((topic, message, rest))
}

fn split_at_byte(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn decimal(digits: &[u8]) -> Result<u64, BadEnvelope> {
    if digits.is_empty() {
        return Err(BadEnvelope::Shape);
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0')).ok_or(BadEnvelope::Shape)?;
        value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(BadEnvelope::Shape)
    })
}
