//! Decides which messages become dead letters, and what a dead letter may contain.
//!
//! Posting a dead letter never waits and does no I/O: the edge thread writes dead letters to the store
//! (`records::RecordWriter`).

use std::sync::Arc;

use message_router::Policies;
use records::{Body, DeadLetter, DeadLetterQueue, Reason};
use wire::{BadMessage, Channel, InstanceId, Position, Scope, Timestamp, UserId};

/// Creates dead letters for the pump.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    dead_letter_queue: Arc<DeadLetterQueue>,
    instance: InstanceId,
    policies: Policies,
    /// Random number of this process, so that its dead letters differ from those of the previous process.
    incarnation: u32,
    /// Number of messages that only this instance delivered.
    isolated: u64,
}

/// The reason why a stored message cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Poison {
    #[error(transparent)]
    Bad(BadMessage),
    #[error("its family accepts no binary messages")]
    Binary,
}

impl Poison {
    /// The reason without the text of the JSON parser, which quotes the message.
    fn reason(&self) -> String {
        match self {
            Self::Bad(BadMessage::Json(_)) => "not a message".into(),
            poison => poison.to_string(),
        }
    }
}

impl DeadLetters {
    pub(crate) fn new(dead_letter_queue: Arc<DeadLetterQueue>, instance: InstanceId, policies: Policies) -> Self {
        let incarnation = getrandom::u32().unwrap_or_else(|_| std::process::id());
        Self { dead_letter_queue, instance, policies, incarnation, isolated: 0 }
    }

    /// Posts a dead letter for a stored message that cannot be delivered. Every instance finds this message, and so
    /// does every client that resumes over it. The position is the deduplication key, so the dead letter is stored
    /// once.
    pub(crate) fn poison(
        &self,
        scope: &Scope,
        topic: &str,
        position: Position,
        time: Timestamp,
        message: &[u8],
        poison: &Poison,
    ) {
        let dedup_key: Box<str> = format!("{scope} {position}").into();
        if self.dead_letter_queue.knows(&dedup_key) {
            return;
        }
        let detail = self.detail(scope, poison);
        let dead_letter = DeadLetter {
            dedup_key,
            reason: Reason::Poison,
            instance: self.instance.clone(),
            scope: scope.clone(),
            topic: topic.into(),
            user: None,
            position: Some(position),
            time,
            detail,
            size: message.len(),
            body: self.body(scope, message),
        };
        if self.dead_letter_queue.post(dead_letter) {
            tracing::warn!(%scope, %position, reason = poison.reason(), "message dropped: kept as a dead letter");
        }
    }

    /// Posts a dead letter for a message that only clients of this instance received. Posts nothing for a family
    /// without history, because its messages have no value later.
    pub(crate) fn isolated(&mut self, channel: &Channel, user: &UserId, time: Timestamp, message: &[u8]) {
        let Channel { scope, .. } = channel;
        if self.policies.policy(scope.family()).history_entries_max == 0 {
            return;
        }
        self.isolated += 1;
        let Self { instance, incarnation, isolated, .. } = self;
        let dedup_key = format!("{instance} {incarnation:08x} {isolated}").into();
        let dead_letter = DeadLetter {
            dedup_key,
            reason: Reason::Isolated,
            instance: self.instance.clone(),
            scope: scope.clone(),
            topic: channel.topic().into(),
            user: Some(user.clone()),
            position: None,
            time,
            detail: "accepted while Redis was away".into(),
            size: message.len(),
            body: self.body(scope, message),
        };
        self.dead_letter_queue.post(dead_letter);
    }

    fn body(&self, scope: &Scope, message: &[u8]) -> Body {
        match self.is_redacted(scope) {
            true => Body::Redacted,
            false => self.dead_letter_queue.body(message),
        }
    }

    /// Returns the reason as the dead letter has it: with the text of the JSON parser, unless the family is redacted.
    fn detail(&self, scope: &Scope, poison: &Poison) -> String {
        if self.is_redacted(scope) { poison.reason() } else { poison.to_string() }
    }

    fn is_redacted(&self, scope: &Scope) -> bool {
        self.policies.policy(scope.family()).redact_dead_letters
    }
}

#[cfg(test)]
mod tests;
