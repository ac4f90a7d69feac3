//! The message the scenarios publish, and how a receiver reads its number back. Pure.
//!
//! The number has a fixed width and the frame a fixed beginning, so a receiver compares and reads at known places
//! instead of parsing JSON: it shares its core with Redis and must cost little.

use std::borrow::Cow;

use serde::Deserialize;
use wire::MessageDraft;

/// The `type` of every published message.
const KIND: &str = "tick";
/// Added to the number so that it always has ten digits: JSON knows no leading zeros.
const BASE: u64 = 1_000_000_000;
const DIGITS: usize = 10;

/// What a publisher stores: `{"type":"tick","payload":{"n":1000000042}}`.
///
/// # Panics
/// Past nine billion messages, which no run reaches.
pub(crate) fn message(number: u64) -> Vec<u8> {
    assert!(number < 9 * BASE, "the number of a tick has {DIGITS} digits");
    let payload = format!(r#"{{"n":{}}}"#, BASE + number);
    let payload = serde_json::value::RawValue::from_string(payload).expect("braces, a name and a number are JSON");
    let kind = Cow::Borrowed(KIND);
    MessageDraft { kind, payload: Some(&payload), binary: None, timestamp: None, correlation_id: None }.to_bytes()
}

/// Reads numbers out of delivered frames of one channel.
#[derive(Debug, Clone)]
pub(crate) struct TickReader {
    /// Everything before the number's digits.
    prefix: Vec<u8>,
}

impl TickReader {
    /// For frames of `channel`, named as clients name it.
    pub(crate) fn new(channel: &str) -> Self {
        let prefix = format!(r#"{{"type":"{KIND}","channel":"{channel}","payload":{{"n":"#);
        Self { prefix: prefix.into_bytes() }
    }

    /// The number, if this payload is a tick of the channel.
    pub(crate) fn read(&self, payload: &[u8]) -> Option<u64> {
        let rest = payload.strip_prefix(self.prefix.as_slice())?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let value = digits
            .iter()
            .try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))?;
        (rest.first() == Some(&b'}')).then(|| value.checked_sub(BASE)).flatten()
    }
}

/// The `type` of a frame that is not a tick; for error messages and control frames, off the hot path.
pub(crate) fn kind_of(payload: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_slice::<Kind>(payload).ok().map(|frame| frame.kind)
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
        message.encode(&channel.scope, channel.topic(), Timestamp(0), position).payload().to_vec()
    }

    #[test]
    fn a_number_survives_the_gateways_own_encoding() {
        let reader = TickReader::new("collection:bench");
        for number in [0, 1, 42, 8_999_999_999] {
            assert_eq!(reader.read(&delivered("collection:bench", number)), Some(number));
        }
    }

    #[test]
    fn a_frame_of_another_channel_is_not_a_tick_of_this_one() {
        let reader = TickReader::new("collection:bench");
        assert_eq!(reader.read(&delivered("collection:other", 1)), None);
        assert_eq!(reader.read(&delivered("collection:bench:t", 1)), None);
    }

    #[test]
    fn a_damaged_frame_is_not_a_tick() {
        let reader = TickReader::new("collection:bench");
        let whole = delivered("collection:bench", 7);
        let digits_end = reader.prefix.len() + DIGITS;
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
