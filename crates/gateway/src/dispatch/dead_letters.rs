//! What becomes a dead letter, and what of it may be kept.
//!
//! Posting never waits and does no I/O: the edge's thread carries dead letters to the store (`records::RecordWriter`).

use std::sync::Arc;

use message_router::Policies;
use records::{Body, DeadLetter, DeadLetterQueue, Reason};
use wire::{BadMessage, Channel, InstanceId, Position, Scope, Timestamp, UserId};

/// Writes dead letters for the pump.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    dead_letter_queue: Arc<DeadLetterQueue>,
    instance: InstanceId,
    policies: Policies,
    /// Of this process, so that its dead letters are not taken for those of the one before it.
    incarnation: u32,
    /// How many messages stayed on this instance.
    isolated: u64,
}

/// Why a stored message cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Poison {
    #[error(transparent)]
    Bad(BadMessage),
    #[error("its family takes no binary messages")]
    Binary,
}

impl DeadLetters {
    pub(crate) fn new(dead_letter_queue: Arc<DeadLetterQueue>, instance: InstanceId, policies: Policies) -> Self {
        let incarnation = getrandom::u32().unwrap_or_else(|_| std::process::id());
        Self { dead_letter_queue, instance, policies, incarnation, isolated: 0 }
    }

    /// A message that is stored and cannot be delivered. Every instance finds it, and every client that resumes over
    /// it: its place is its mark, so that it is kept once.
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
            detail: detail.clone(),
            size: message.len(),
            body: self.body(scope, message),
        };
        if self.dead_letter_queue.post(dead_letter) {
            tracing::warn!(%scope, %position, reason = detail, "message dropped: kept as a dead letter");
        }
    }

    /// A message that went to clients of this instance alone. Of a family without history nothing is kept: what it
    /// carries is worth nothing later.
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
            detail: "taken while Redis was away".into(),
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

    /// The parser's own sentence quotes what it read.
    fn detail(&self, scope: &Scope, poison: &Poison) -> String {
        match poison {
            Poison::Bad(BadMessage::Json(_)) if self.is_redacted(scope) => "not a message".into(),
            poison => poison.to_string(),
        }
    }

    fn is_redacted(&self, scope: &Scope) -> bool {
        self.policies.policy(scope.family()).redact_dead_letters
    }
}

#[cfg(test)]
mod tests;
