//! The publishes of backends, by FCALL.

use redis_model::Call;
use wire::Scope;

use super::schedule::SimulatedEvent;
use super::world::{TOPICS, World};

impl World {
    pub(super) fn backend_publishes(&mut self) {
        if self.is_quiet {
            return;
        }
        let delay_ms = self.random.within(5, 60);
        self.schedule.after(delay_ms, SimulatedEvent::BackendPublishes);
        let scope = self.random.pick(&self.scopes).clone();
        let now_ms = self.schedule.now_ms();
        self.hushed.take_if(|(_, until_ms)| *until_ms <= now_ms);
        if self.hushed.as_ref().is_some_and(|(hushed, _)| *hushed == scope) {
            return;
        }
        let count = self.random.within(1, 4);
        self.publish_at_backend(&scope, count);
    }

    /// Publishes by FCALL at the primary, or at an old primary that still accepts writes.
    pub(super) fn publish_at_backend(&mut self, scope: &Scope, count: u64) {
        let primary = self.redis.primary;
        let old = super::redis::other(primary);
        let node = if self.redis.is_primary(old) && self.random.one_in(2) { old } else { primary };
        if !self.redis.runs[node.0] {
            return;
        }
        let mut drafts = Vec::new();
        for _ in 0..count {
            let (number, message) = self.next_message();
            let topic = Box::from(*self.random.pick(TOPICS));
            drafts.push(redis_model::Draft { topic, message, id: Some(format!("backend-{number}").into()) });
        }
        let call = if self.random.one_in(2) { Call::Publish(drafts) } else { Call::PublishOnce(drafts) };
        let mut pushes = Vec::new();
        let outcome = self.store(node, scope, call, &mut pushes);
        self.push(pushes);
        if let Err(wrong) = outcome {
            self.fail(wrong);
        }
    }

    /// Publishes one message to each channel. A client that has received everything receives this message and no
    /// other.
    pub(super) fn publish_last(&mut self) {
        for scope in self.scopes.clone() {
            for topic in TOPICS {
                let (_, message) = self.next_message();
                let drafts = vec![redis_model::Draft { topic: (*topic).into(), message, id: None }];
                let mut pushes = Vec::new();
                let outcome = self.store(self.redis.primary, &scope, Call::Publish(drafts), &mut pushes);
                self.push(pushes);
                match outcome {
                    Ok(Ok(_)) => {}
                    other => return self.fail(format!("the last message is not stored: {other:?}")),
                }
            }
        }
    }
}
