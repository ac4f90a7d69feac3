//! The one message that a client is publishing. It is sent again under its id until its outcome is known.

use std::sync::atomic::Ordering;
use std::time::Duration;

use history_checker::{PublishAnswer, Retry};
use serde_json::Value;
use test_support::Random;
use tokio::time::Instant;

use super::audience::Audience;
use crate::publisher::Draft;

/// Longer than a gateway waits for Redis, so that its answer arrives in time.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(2_500);
/// The pause before a message with an unknown outcome is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(150);

#[derive(Debug)]
pub(crate) struct Pending {
    channel: String,
    every: Option<Duration>,
    /// The time of the next step: a new message, the same message again, or the end of the wait for an answer.
    due: Instant,
    draft: Option<Draft>,
    /// The message has been sent at least once.
    was_sent: bool,
    /// The message was sent on this connection and is not answered yet.
    is_asked: bool,
}

impl Pending {
    /// The state of a client that publishes to `scope`, if clients of this trial publish.
    pub(crate) fn new(audience: &Audience, scope: &str, mut random: Random) -> Self {
        let every = audience.publish_every;
        let first = random.between(Duration::ZERO, every.unwrap_or(Duration::from_secs(1)));
        Self {
            channel: format!("{scope}:notes"),
            every,
            due: Instant::now() + first,
            draft: None,
            was_sent: false,
            is_asked: false,
        }
    }

    /// The time at which [`Self::next`] has something to do.
    pub(crate) fn due(&self, is_live: bool) -> Option<Instant> {
        (self.every.is_some() && is_live).then_some(self.due)
    }

    /// The frame to send now, if any.
    pub(crate) fn next(&mut self, audience: &Audience, via: &str) -> Option<String> {
        let now = Instant::now();
        if self.is_asked {
            self.broken(audience);
        }
        if self.draft.is_none() {
            self.due = now + self.every.unwrap_or(ANSWER_TIME_MAX);
            if *audience.is_calm.borrow() {
                return None;
            }
            audience.unanswered.fetch_add(1, Ordering::Relaxed);
            self.draft = Some(audience.draft(self.channel.clone()));
            self.was_sent = false;
        }
        let draft = self.draft.as_ref()?;
        let retry = if self.was_sent { Retry::SameId } else { Retry::No };
        draft.sent(&audience.recorder, Some(via), retry);
        (self.was_sent, self.is_asked) = (true, true);
        self.due = now + ANSWER_TIME_MAX;
        Some(draft.frame())
    }

    /// The connection has ended. No answer to the sent message will arrive.
    pub(crate) fn broken(&mut self, audience: &Audience) {
        if let Some(draft) = self.draft.as_ref().filter(|_| self.is_asked) {
            draft.answered(&audience.recorder, PublishAnswer::Nothing("no answer came".into()));
            self.is_asked = false;
        }
        if self.draft.is_some() {
            self.due = Instant::now();
        }
    }

    /// Handles a frame that carries a correlation id.
    pub(crate) fn answered(&mut self, audience: &Audience, kind: &str, frame: &Value, text: &str) {
        let Some(draft) = self.draft.as_ref().filter(|draft| frame["correlation_id"] == *draft.value) else { return };
        if !self.is_asked {
            return;
        }
        draft.answered(&audience.recorder, PublishAnswer::Frame(text.to_owned()));
        self.is_asked = false;
        if frame["payload"]["code"] == "unknown" {
            self.due = Instant::now() + RETRY_PAUSE;
            return;
        }
        if let Some(position) = frame["position"].as_str().and_then(|at| at.parse().ok()).filter(|_| kind == "ack") {
            audience.acknowledge(draft, position);
        }
        self.draft = None;
        self.due = Instant::now() + self.every.unwrap_or(ANSWER_TIME_MAX);
        audience.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}
