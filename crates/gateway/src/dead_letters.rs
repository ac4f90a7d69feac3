//! What becomes a dead letter, and what of it may be kept.
//!
//! Posting never waits and does no I/O: the edge's thread carries letters to the store (`records::Recorder`).

use std::sync::Arc;

use message_router::Policies;
use records::{Body, Letter, Letterbox, Reason};
use wire::{BadMessage, Channel, InstanceId, Position, Scope, Timestamp, UserId};

/// Writes dead letters for the pump.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letterbox: Arc<Letterbox>,
    instance: InstanceId,
    policies: Policies,
    /// Of this process, so that its letters are not taken for those of the one before it.
    life: u32,
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
    pub(crate) fn new(letterbox: Arc<Letterbox>, instance: InstanceId, policies: Policies) -> Self {
        let life = getrandom::u32().unwrap_or_else(|_| std::process::id());
        Self { letterbox, instance, policies, life, isolated: 0 }
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
        let mark: Box<str> = format!("{scope} {position}").into();
        if self.letterbox.knows(&mark) {
            return;
        }
        let detail = self.detail(scope, poison);
        let letter = Letter {
            mark,
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
        if self.letterbox.post(letter) {
            tracing::warn!(%scope, %position, reason = detail, "a message was left out: it is a dead letter now");
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
        let Self { instance, life, isolated, .. } = self;
        let mark = format!("{instance} {life:08x} {isolated}").into();
        let letter = Letter {
            mark,
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
        self.letterbox.post(letter);
    }

    fn body(&self, scope: &Scope, message: &[u8]) -> Body {
        match self.is_redacted(scope) {
            true => Body::Redacted,
            false => self.letterbox.body(message),
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
