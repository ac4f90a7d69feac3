//! The behaviour of a client that keeps only its session id, as `docs/protocol.md` describes it (Coming back without
//! positions).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// The state of the current connection, and the subscriptions that the client can rely on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Subscriptions that were confirmed in this session. The gateway must restore them.
    confirmed: BTreeSet<String>,
    /// Frames to send at once.
    due: Vec<String>,
    /// The `hello` as it was sent, until it is answered.
    hello: Option<String>,
    /// The time at which to send the `hello` again.
    again: Option<Instant>,
}

impl Kept {
    /// Sends the session id. Only a client without one lists the channels that it wants.
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

    /// The gateway has confirmed a subscription.
    pub(super) fn confirmed(&mut self, channel: &str) {
        self.confirmed.insert(channel.to_owned());
    }

    /// The client does not subscribe again to restored channels, nor to confirmed channels that are missing in the
    /// reply. It repeats only the subscriptions that were never confirmed.
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

    /// A `hello` that the gateway cannot answer now is sent again at the time that the gateway gives.
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

    /// The connection has ended. Frames that were not sent on it are dropped.
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
