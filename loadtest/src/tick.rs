//! The message that the scenarios publish, and the reader of its number. Pure.
//!
//! The number has a fixed width and the frame has a fixed beginning. A receiver compares and reads at known offsets and
//! parses no JSON, because it shares its core with Redis and must be cheap.

use std::borrow::Cow;

use serde::Deserialize;
use wire::MessageDraft;

/// The `type` of every published message.
pub(crate) const KIND: &str = "tick";
/// Added to the number so that it always has ten digits, because JSON numbers have no leading zeros.
const BASE: u64 = 1_000_000_000;
const DIGITS: usize = 10;

/// The message that a publisher stores: `{"type":"tick","payload":{"n":1000000042}}`.
///
/// # Panics
/// After nine billion messages, which no run reaches.
pub(crate) fn message(number: u64) -> Vec<u8> {
    assert!(number < 9 * BASE, "the number of a tick has {DIGITS} digits");
    let payload = format!(r#"{{"n":{}}}"#, BASE + number);
    let payload = serde_json::value::RawValue::from_string(payload).expect("braces, a name and a number are JSON");
    let kind = Cow::Borrowed(KIND);
    MessageDraft { kind, payload: Some(&payload), binary: None, timestamp: None, correlation_id: None }.to_bytes()
}

/// Reads the numbers in frames of one channel, or of channels that differ in one part of fixed width.
#[derive(Debug, Clone)]
pub(crate) struct TickReader {
    /// The bytes before the varying part.
    head: Vec<u8>,
    /// Length of the varying part in bytes.
    varying: usize,
    /// The bytes between the varying part and the digits of the number.
    middle: Vec<u8>,
}

impl TickReader {
    /// A reader for channels, named as clients name them, that begin with `stem` and continue with `varying` more
    /// bytes.
    pub(crate) fn new(stem: &str, varying: usize) -> Self {
        let head = format!(r#"{{"type":"{KIND}","channel":"{stem}"#).into_bytes();
        Self { head, varying, middle: br#"","payload":{"n":"#.to_vec() }
    }

    /// The number, if this payload is a tick of one of these channels.
    pub(crate) fn read(&self, payload: &[u8]) -> Option<u64> {
        let rest = payload.strip_prefix(self.head.as_slice())?.get(self.varying..)?;
        let (digits, rest) = rest.strip_prefix(self.middle.as_slice())?.split_at_checked(DIGITS)?;
        let value = digits
            .iter()
            .try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))?;
        (rest.first() == Some(&b'}')).then(|| value.checked_sub(BASE)).flatten()
    }
}

/// The `type` of a frame that is not a tick. Used for error messages and control frames, outside the hot path.
pub(crate) fn kind_of(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct FrameType {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_slice::<FrameType>(payload).ok().map(|frame| frame.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Families, Message, Position, TenantId, Timestamp};

    fn delivered(channel: &str, number: u64) -> Vec<u8> {
        let channel = Families::default().parse_channel(&TenantId::default(), channel).expect("a channel");
        let stored = message(number);
        let message = Message::parse(&stored).expect("what we publish is a message");
        let position = Some(Position::new(117_440_512, number));
        let mut delivered = Vec::new();
        message.write(&channel.scope, channel.topic(), Timestamp(0), position, &mut delivered);
        delivered
    }

    #[test]
    fn a_number_survives_the_gateways_own_encoding() {
        let reader = TickReader::new("collection:bench", 0);
        for number in [0, 1, 42, 8_999_999_999] {
            assert_eq!(reader.read(&delivered("collection:bench", number)), Some(number));
        }
    }

    #[test]
    fn a_frame_of_another_channel_is_not_a_tick_of_this_one() {
        let reader = TickReader::new("collection:bench", 0);
        assert_eq!(reader.read(&delivered("collection:other", 1)), None);
        assert_eq!(reader.read(&delivered("collection:bench:t", 1)), None);
    }

    #[test]
    fn channels_may_differ_where_the_reader_was_told() {
        let reader = TickReader::new("user:u", 5);
        assert_eq!(reader.read(&delivered("user:u00042", 7)), Some(7));
        assert_eq!(reader.read(&delivered("user:u0042", 7)), None);
        assert_eq!(reader.read(&delivered("user:x00042", 7)), None);
    }

    #[test]
    fn a_damaged_frame_is_not_a_tick() {
        let reader = TickReader::new("collection:bench", 0);
        let whole = delivered("collection:bench", 7);
        let digits_end = reader.head.len() + reader.middle.len() + DIGITS;
        assert_eq!(reader.read(&whole[..digits_end]), None, "cut behind the number");
        let mut damaged = whole;
        damaged[digits_end - 1] = b'x';
        assert_eq!(reader.read(&damaged), None);
    }

    #[test]
    fn control_frames_say_what_they_are() {
        assert_eq!(kind_of(br#"{"type":"gap","channel":"a","payload":{}}"#).as_deref(), Some("gap"));
        assert_eq!(kind_of(b"\xff"), None);
    }
}
