//! The subscriptions of a session when its connection ended, for a client that keeps only the session's id.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use wire::{Position, SessionId, TenantId, Timestamp, UserId};

/// Longest record that is stored. 256 channels of average length take about 20 KiB.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// The subscriptions of a session, and what its client is known to have received through each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Channels as the client named them, each with the newest position that the client has received. Without a
    /// position the subscription starts again.
    pub channels: Vec<(Box<str>, Option<Position>)>,
    /// True if the client has received everything that was sent to it, so that it receives no message twice.
    pub exact: bool,
}

/// The record of a session whose connection has ended, and the user it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedSessionRecord {
    /// Session that the record belongs to.
    pub session: SessionId,
    /// Tenant of the user.
    pub tenant: TenantId,
    /// User that the session belongs to.
    pub user: UserId,
    /// Time of arrival of the connection. Here it is by this instance's clock, in the store by the store's. Of two
    /// records the store keeps that of the newer connection.
    pub since: Timestamp,
    /// The same time by the monotonic clock.
    pub arrival: Instant,
    /// Subscriptions of the session.
    pub record: SessionRecord,
}

#[derive(Serialize, Deserialize)]
struct Shape<'a> {
    exact: bool,
    #[serde(borrow)]
    channels: Vec<(std::borrow::Cow<'a, str>, Option<String>)>,
}

impl SessionRecord {
    /// The record as JSON. `None` if it is too long.
    pub(crate) fn encode(&self) -> Option<String> {
        let channel = |(name, position): &(Box<str>, Option<Position>)| {
            (std::borrow::Cow::from(name.to_string()), position.map(|position| position.to_string()))
        };
        let shape = Shape { exact: self.exact, channels: self.channels.iter().map(channel).collect() };
        let text = serde_json::to_string(&shape).expect("texts and a flag are JSON");
        (text.len() <= RECORD_BYTES_MAX).then_some(text)
    }

    /// Reads what [`Self::encode`] wrote.
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
        assert!(record(256, 128).encode().is_some(), "as many channels as a client may have, with long names");
        assert_eq!(record(256, 240).encode(), None);
    }
}
