//! RESP3 for a subscriber: an incremental parser that returns slices of the buffer.
//!
//! The first bytes identify a message push, which never becomes a tree of values. Everything else that Redis may send
//! (answers to `HELLO`, errors, other pushes) takes the slow path through [`Value`].

use bytes::{Buf, Bytes, BytesMut};
use redis_topology::ErrorReply;

/// Longest payload of a message, in bytes. The publish function takes 16 MiB per call, and adds a line for each message.
/// A longer one is another program's PUBLISH to one of our channels: its bytes are dropped as they arrive.
const PAYLOAD_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Longest other text, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest payload that can be dropped. Redis' own bound (`proto-max-bulk-len`) is 512 MiB by default.
const DROPPED_BYTES_MAX: usize = 1 << 40;
/// Longest line (a length, number, simple text or error), in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most values within one value, nested ones included: an unfinished value is read again from its beginning.
const VALUES_MAX: usize = 4096;
/// Deepest nesting. Redis' own answers need four levels.
const DEPTH_MAX: usize = 16;

/// The beginning of every message push; the name of the channel and the payload follow.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
/// The beginning of every message push in a cluster.
const SHARDED_MESSAGE: &[u8] = b">3\r\n$8\r\nsmessage\r\n";

/// A push or an answer.
#[derive(Debug, PartialEq)]
pub(super) enum PushFrame {
    /// A message on a channel.
    Message { channel: Bytes, payload: Bytes },
    /// A message whose payload is too long for any publish, with its length. The payload is dropped.
    TooLong { channel: Bytes, bytes: usize },
    /// `SUBSCRIBE` or `SSUBSCRIBE` took effect.
    Subscribed { channel: Bytes },
    /// `UNSUBSCRIBE` or `SUNSUBSCRIBE` took effect, or the channel's slot has moved to another node.
    Unsubscribed { channel: Bytes },
    /// An error reply. Only a subscription can be refused.
    Refused(String),
    /// The answer to a command, or a push of another kind.
    Other(Value),
}

/// One RESP value. Types that differ only in how a reader may show them are one variant here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A simple, bulk or verbatim text, a double or a big number, as it was written.
    Text(Bytes),
    Error(Bytes),
    Number(i64),
    Boolean(bool),
    Null,
    /// An array or a set.
    List(Vec<Value>),
    /// A map, as pairs of key and value.
    Map(Vec<Value>),
    Push(Vec<Value>),
}

/// The bytes are not RESP, or break a limit. The connection cannot be used afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis sent what is not RESP: {0}")]
pub(super) struct BadResp(&'static str);

/// Holds bytes that were read and not yet parsed.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pub(super) buffer: BytesMut,
    /// Bytes that belong to a payload that is dropped, and have not arrived.
    dropping: usize,
}

// === impl Value ===

impl Value {
    /// The value under `key`, if this is a map that has the key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let Self::Map(items) = self else { return None };
        let (pairs, _) = items.as_chunks::<2>();
        pairs.iter().find(|[k, _]| matches!(k, Self::Text(text) if text == key)).map(|[_, value]| value)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

// === impl Decoder ===

impl Decoder {
    /// Returns the next push or answer, or nothing before more bytes are read.
    ///
    /// # Errors
    /// If the bytes are not RESP. Another call does not help then.
    pub(super) fn next(&mut self) -> Result<Option<PushFrame>, BadResp> {
        let dropped = self.dropping.min(self.buffer.len());
        self.buffer.advance(dropped);
        self.dropping -= dropped;
        if self.dropping > 0 {
            return Ok(None);
        }
        let outcome = match message(&self.buffer) {
            Fast::TooLong { channel, payload, bytes } => {
                let mut head = self.buffer.split_to(payload).freeze();
                head.advance(channel.0);
                head.truncate(channel.1 - channel.0);
                self.dropping = bytes + 2;
                return Ok(Some(PushFrame::TooLong { channel: head, bytes }));
            }
            Fast::Message { channel, payload, end } => {
                let mut frame = self.buffer.split_to(end).freeze();
                frame.advance(channel.0);
                let name = frame.split_to(channel.1 - channel.0);
                frame.advance(payload.0 - channel.1);
                frame.truncate(payload.1 - payload.0);
                return Ok(Some(PushFrame::Message { channel: name, payload: frame }));
            }
            Fast::Incomplete => Err(Stop::Incomplete),
            Fast::Bad(reason) => Err(Stop::Bad(reason)),
            Fast::Another => self.value().map(receive),
        };
        match outcome {
            Ok(received) => Ok(Some(received)),
            Err(Stop::Incomplete) => Ok(None),
            Err(Stop::Bad(reason)) => Err(BadResp(reason)),
        }
    }

    /// Whether the bytes of a payload that is dropped are arriving.
    pub(super) fn is_dropping(&self) -> bool {
        self.dropping > 0
    }

    /// Takes one whole value off the buffer.
    fn value(&mut self) -> Result<Value, Stop> {
        let mut cursor = Cursor { bytes: &self.buffer, at: 0, values_left: VALUES_MAX };
        cursor.skip(0)?;
        let frame = self.buffer.split_to(cursor.at).freeze();
        let mut cursor = Cursor { bytes: &frame, at: 0, values_left: VALUES_MAX };
        cursor.read(&frame)
    }
}

/// Why parsing stopped.
#[derive(Debug, PartialEq)]
enum Stop {
    Incomplete,
    Bad(&'static str),
}

/// Where a message push has its two texts, as (first byte, byte behind the last).
enum Fast {
    Message {
        channel: (usize, usize),
        payload: (usize, usize),
        end: usize,
    },
    /// The payload begins at `payload` and is too long.
    TooLong {
        channel: (usize, usize),
        payload: usize,
        bytes: usize,
    },
    Incomplete,
    Another,
    Bad(&'static str),
}

fn message(bytes: &[u8]) -> Fast {
    let begin = if bytes.get(5) == Some(&b'8') { SHARDED_MESSAGE } else { MESSAGE };
    let head = begin.len().min(bytes.len());
    if bytes[..head] != begin[..head] {
        return Fast::Another;
    }
    if head < begin.len() {
        return Fast::Incomplete;
    }
    let texts = text_at(bytes, begin.len(), TEXT_BYTES_MAX).and_then(|channel| {
        let (length, start) = length_of(bytes, channel.1 + 2, DROPPED_BYTES_MAX)?;
        if length > PAYLOAD_BYTES_MAX {
            return Ok(Fast::TooLong { channel, payload: start, bytes: length });
        }
        let payload = text_at(bytes, channel.1 + 2, PAYLOAD_BYTES_MAX)?;
        Ok(Fast::Message { channel, payload, end: payload.1 + 2 })
    });
    match texts {
        Ok(message) => message,
        Err(Stop::Incomplete) => Fast::Incomplete,
        Err(Stop::Bad(reason)) => Fast::Bad(reason),
    }
}

/// The length and the first byte of the bulk text whose `$` is at `at`.
fn length_of(bytes: &[u8], at: usize, max: usize) -> Result<(usize, usize), Stop> {
    match bytes.get(at) {
        None => Err(Stop::Incomplete),
        Some(b'$') => length_at(bytes, at + 1, max),
        Some(_) => Err(Stop::Bad("a message whose channel or payload is not a bulk text")),
    }
}

/// The bulk text whose `$` is at `at`.
fn text_at(bytes: &[u8], at: usize, max: usize) -> Result<(usize, usize), Stop> {
    let (length, start) = length_of(bytes, at, max)?;
    let end = start + length;
    match bytes.get(end..end + 2) {
        None => Err(Stop::Incomplete),
        Some(b"\r\n") => Ok((start, end)),
        Some(_) => Err(Stop::Bad("a text longer than its length says")),
    }
}

/// The length of a text, and where the text begins.
fn length_at(bytes: &[u8], mut at: usize, max: usize) -> Result<(usize, usize), Stop> {
    let (first, mut length) = (at, 0usize);
    loop {
        match bytes.get(at) {
            None => return Err(Stop::Incomplete),
            Some(digit @ b'0'..=b'9') => length = length * 10 + usize::from(digit - b'0'),
            Some(b'\r') if at > first => break,
            Some(_) => return Err(Stop::Bad("a length that is not a number")),
        }
        if length > max {
            return Err(Stop::Bad("a text that is too long"));
        }
        at += 1;
    }
    match bytes.get(at + 1) {
        None => Err(Stop::Incomplete),
        Some(b'\n') => Ok((length, at + 2)),
        Some(_) => Err(Stop::Bad("a carriage return without a line feed")),
    }
}

fn receive(value: Value) -> PushFrame {
    match value {
        Value::Error(text) => {
            let text = String::from_utf8_lossy(&text);
            PushFrame::Refused(ErrorReply(&text).without_arguments().to_owned())
        }
        Value::Push(items) => match &items[..] {
            [Value::Text(kind), Value::Text(channel), Value::Number(_)]
                if kind == "subscribe" || kind == "ssubscribe" =>
            {
                PushFrame::Subscribed { channel: channel.clone() }
            }
            [Value::Text(kind), Value::Text(channel), Value::Number(_)]
                if kind == "unsubscribe" || kind == "sunsubscribe" =>
            {
                PushFrame::Unsubscribed { channel: channel.clone() }
            }
            _ => PushFrame::Other(Value::Push(items)),
        },
        other => PushFrame::Other(other),
    }
}

/// Reads bytes that may end anywhere: once to find the end of a value, and once more to build it.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
    values_left: usize,
}

impl<'b> Cursor<'b> {
    /// Skips one value.
    fn skip(&mut self, depth: usize) -> Result<(), Stop> {
        let (kind, line) = self.open(depth)?;
        match kind {
            b'$' | b'=' | b'!' if line != b"-1" => self.text(line).map(drop),
            b'*' | b'~' | b'>' if line != b"-1" => (0..count(line)?).try_for_each(|_| self.skip(depth + 1)),
            b'%' => (0..2 * count(line)?).try_for_each(|_| self.skip(depth + 1)),
            // An attribute describes the value behind it.
            b'|' => (0..2 * count(line)? + 1).try_for_each(|_| self.skip(depth + 1)),
            _ => Ok(()),
        }
    }

    /// Builds the value that [`Self::skip`] has skipped; `frame` owns the bytes.
    fn read(&mut self, frame: &Bytes) -> Result<Value, Stop> {
        let (kind, line) = self.open(0)?;
        Ok(match kind {
            b'$' | b'=' | b'*' | b'~' | b'>' if line == b"-1" => Value::Null,
            b'_' => Value::Null,
            b'+' | b',' | b'(' => Value::Text(frame.slice_ref(line)),
            b'-' => Value::Error(frame.slice_ref(line)),
            b':' => Value::Number(number(line)?),
            b'#' => Value::Boolean(line == b"t"),
            b'$' => Value::Text(frame.slice_ref(self.text(line)?)),
            b'!' => Value::Error(frame.slice_ref(self.text(line)?)),
            // Three letters and a colon say how to show a verbatim text.
            b'=' => Value::Text(frame.slice_ref(self.text(line)?.get(4..).unwrap_or_default())),
            b'*' | b'~' => Value::List(self.items(frame, count(line)?)?),
            b'>' => Value::Push(self.items(frame, count(line)?)?),
            b'%' => Value::Map(self.items(frame, 2 * count(line)?)?),
            b'|' => {
                self.items(frame, 2 * count(line)?)?;
                self.read(frame)?
            }
            _ => return Err(Stop::Bad("a value of no known type")),
        })
    }

    fn items(&mut self, frame: &Bytes, count: usize) -> Result<Vec<Value>, Stop> {
        (0..count).map(|_| self.read(frame)).collect()
    }

    /// The type and the rest of the line that every value begins with.
    fn open(&mut self, depth: usize) -> Result<(u8, &'b [u8]), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Bad("values nested too deep"));
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(Stop::Bad("too many values in one"))?;
        let kind = *self.bytes.get(self.at).ok_or(Stop::Incomplete)?;
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return Err(Stop::Bad("a value of no known type"));
        }
        let rest = &self.bytes[self.at + 1..];
        let line = match rest.iter().position(|b| *b == b'\r') {
            Some(end) if rest.get(end + 1).is_none_or(|b| *b == b'\n') => &rest[..end],
            Some(_) => return Err(Stop::Bad("a carriage return without a line feed")),
            None if rest.len() > LINE_BYTES_MAX => return Err(Stop::Bad("a line above 64 KiB")),
            None => return Err(Stop::Incomplete),
        };
        if rest.len() < line.len() + 2 {
            return Err(Stop::Incomplete);
        }
        self.at += line.len() + 3;
        Ok((kind, line))
    }

    /// The text behind its length.
    fn text(&mut self, length: &[u8]) -> Result<&'b [u8], Stop> {
        let length = usize::try_from(number(length)?).ok().filter(|n| *n <= TEXT_BYTES_MAX);
        let end = self.at + length.ok_or(Stop::Bad("a text of impossible length"))?;
        match self.bytes.get(end..end + 2) {
            None => Err(Stop::Incomplete),
            Some(b"\r\n") => {
                let text = &self.bytes[self.at..end];
                self.at = end + 2;
                Ok(text)
            }
            Some(_) => Err(Stop::Bad("a text longer than its length says")),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(line).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Stop::Bad("a number that is none"))
}

/// How many values follow. A number above the limit is refused before memory is reserved.
fn count(line: &[u8]) -> Result<usize, Stop> {
    let count = usize::try_from(number(line)?).ok().filter(|n| *n <= VALUES_MAX);
    count.ok_or(Stop::Bad("too many values in one"))
}

#[cfg(test)]
mod tests;
