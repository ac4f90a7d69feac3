//! What a client does that keeps nothing but its session's id, as `docs/protocol.md` tells it to (Coming back without
//! positions).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// What it knows on its connection, and which subscriptions it may rely on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// It was told that these stand, in this session: whatever comes, they are the gateway's to bring back.
    confirmed: BTreeSet<String>,
    /// To be sent at once.
    due: Vec<String>,
    /// Its `hello` as it was sent, while it has no answer.
    hello: Option<String>,
    /// When to send it again.
    again: Option<Instant>,
}

impl Kept {
    /// Names its session; only a client without one says what it wants to hear.
    pub(super) fn hello<'a>(
        &mut self,
        token: &str,
        session: Option<&str>,
        wanted: impl Iterator<Item = &'a String>,
    ) -> String {
        let mut payload = json!({"token": token, "restore": true});
        if let Some(session) = session {
            payload["session_id"] = json!(session);
        } else {
            self.confirmed.clear();
            payload["channels"] = wanted.map(|channel| json!({"channel": channel})).collect();
        }
        let hello = json!({"type": "hello", "payload": payload}).to_string();
        self.hello = session.is_some().then(|| hello.clone());
        hello
    }

    /// A subscription stands.
    pub(super) fn confirmed(&mut self, channel: &str) {
        self.confirmed.insert(channel.to_owned());
    }

    /// What was brought back it does not ask for, nor what was lost in silence. What it had asked for and was not told of it
    /// asks for again.
    pub(super) fn restored<'a>(&mut self, payload: &Value, wanted: impl Iterator<Item = &'a String>) {
        (self.hello, self.again) = (None, None);
        if payload["found"] == false {
            self.confirmed.clear();
        }
        let channels = payload["channels"].as_array().map_or(&[][..], Vec::as_slice);
        let is_brought_back = |channel: &str| channels.iter().any(|restored| restored == channel);
        let asks = wanted.filter(|channel| !self.confirmed.contains(*channel) && !is_brought_back(channel));
        self.due.extend(asks.map(|channel| json!({"type": "subscribe", "channel": channel}).to_string()));
    }

    /// A `hello` that cannot be answered now is sent again, when the gateway says.
    pub(super) fn refused(&mut self, payload: &Value, now: Instant) {
        if self.hello.is_some() && payload["code"] == "unavailable" {
            self.again = payload["retry_after_ms"].as_u64().map(|wait| now + Duration::from_millis(wait));
        }
    }

    pub(super) fn asks_again_at(&self) -> Option<Instant> {
        self.again
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.due.extend(self.hello.clone());
        }
        std::mem::take(&mut self.due)
    }

    /// The connection is over, and what was to be said on it.
    pub(super) fn ended(&mut self) {
        self.due.clear();
        (self.hello, self.again) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Vec<String> {
        vec!["collection:1:*".into(), "system:*".into()]
    }

    fn subscribe(channel: &str) -> String {
        json!({"type": "subscribe", "channel": channel}).to_string()
    }

    #[test]
    fn it_relies_on_what_it_was_told_and_asks_for_the_rest() {
        let (mut kept, wanted, now) = (Kept::default(), wanted(), Instant::now());
        assert!(kept.hello("t", None, wanted.iter()).contains("channels"));
        kept.confirmed("system:*");
        assert!(!kept.hello("t", Some("5e"), wanted.iter()).contains("channels"));
        kept.restored(&json!({"found": true, "repeats": true, "channels": []}), wanted.iter());
        assert_eq!(kept.take_due(now), [subscribe("collection:1:*")], "the other one is lost in silence");
        kept.restored(&json!({"found": true, "repeats": true, "channels": wanted}), wanted.iter());
        assert!(kept.take_due(now).is_empty());
        kept.restored(&json!({"found": false}), wanted.iter());
        assert_eq!(kept.take_due(now), [subscribe("collection:1:*"), subscribe("system:*")]);
    }

    #[test]
    fn a_hello_that_cannot_be_answered_is_sent_again_when_it_is_time() {
        let (mut kept, wanted, now) = (Kept::default(), wanted(), Instant::now());
        let hello = kept.hello("t", Some("5e"), wanted.iter());
        kept.refused(&json!({"code": "unavailable", "retry_after_ms": 1_000}), now);
        let then = now + Duration::from_millis(1_000);
        assert_eq!((kept.asks_again_at(), kept.take_due(now)), (Some(then), vec![]));
        assert_eq!((kept.take_due(then), kept.asks_again_at()), (vec![hello], None));
        kept.restored(&json!({"found": true, "repeats": false, "channels": wanted}), wanted.iter());
        kept.refused(&json!({"code": "unavailable", "retry_after_ms": 1_000}), then);
        assert_eq!(kept.asks_again_at(), None, "that one was answered");
    }
}
