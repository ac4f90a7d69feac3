//! What a session held when its connection ended, for a client that keeps nothing but the session's id.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::{Position, SessionId, TenantId, Timestamp, UserId};

/// A longer record is not kept: 256 channels of average length take about 20 KiB.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The subscriptions of a session, and what its client is known to have received through each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// As the client named them. Without a position nothing is known, and the subscription starts anew.
    pub channels: Vec<(Box<str>, Option<Position>)>,
    /// The client has received everything that was sent to it: nothing comes twice.
    pub exact: bool,
}

/// A record, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedSessionRecord {
    /// Of which session.
    pub session: SessionId,
    /// Of which customer.
    pub tenant: TenantId,
    /// Whose.
    pub user: UserId,
    /// Since when the connection had been there, by this instance's clock; in the store, by the store's. Of two records
    /// the one of the newer connection stays.
    pub since: Timestamp,
    /// The same by the monotonic clock.
    pub arrival: Instant,
    /// What it held.
    pub record: SessionRecord,
}

#[derive(Serialize, Deserialize)]
struct Shape<'a> {
    exact: bool,
    #[serde(borrow)]
    channels: Vec<(std::borrow::Cow<'a, str>, Option<String>)>,
}

impl SessionRecord {
    /// As the store keeps it; nothing if it is too long.
    pub(crate) fn encode(&self) -> Option<String> {
        let channel = |(name, position): &(Box<str>, Option<Position>)| {
            (std::borrow::Cow::from(name.to_string()), position.map(|position| position.to_string()))
        };
        let shape = Shape { exact: self.exact, channels: self.channels.iter().map(channel).collect() };
        let text = serde_json::to_string(&shape).expect("texts and a flag are JSON");
        (text.len() <= RECORD_BYTES_MAX).then_some(text)
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let Shape { exact, channels } = serde_json::from_str(text).ok()?;
        let channel = |(name, position): (std::borrow::Cow<'_, str>, Option<String>)| {
            let position = position.map(|text| text.parse::<Position>().ok());
            match position {
                Some(None) => None,
                position => Some((name.into(), position.flatten())),
            }
        };
        Some(Self { exact, channels: channels.into_iter().map(channel).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let channels = vec![("collection:42:*".into(), Some(Position::new(7, 9))), ("system".into(), None)];
        let record = SessionRecord { channels, exact: true };
        let text = record.encode().unwrap();
        assert_eq!(text, r#"{"exact":true,"channels":[["collection:42:*","7-9"],["system",null]]}"#);
        assert_eq!(SessionRecord::decode(&text), Some(record));
        for bad in ["", "{}", r#"{"exact":true,"channels":[["system","later"]]}"#] {
            assert_eq!(SessionRecord::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_record_is_bounded() {
        let record = |count, length| {
            let channel =
                (format!("collection:{}", "x".repeat(length)).into(), Some(Position::new(u64::MAX, u64::MAX)));
            SessionRecord { channels: vec![channel; count], exact: false }
        };
        assert!(record(256, 128).encode().is_some(), "all that a client may hold, with a long name each");
        assert_eq!(record(256, 240).encode(), None);
    }
}
