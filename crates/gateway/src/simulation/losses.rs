//! Losses of Redis that a client has been informed about. As long as Redis records the loss, every client that
//! resumes from before it must get a gap, on every instance.

use redis_model::Meta;
use wire::{Position, Scope};

use super::redis::other;
use super::schedule::InstanceRun;
use super::world::World;

#[derive(Debug, Default)]
pub(super) struct Losses(Vec<Loss>);

#[derive(Debug)]
struct Loss {
    scope: Scope,
    /// The end of what Redis still has. Messages after it were lost.
    end: Position,
    noted_ms: u64,
}

impl World {
    /// Returns the ends that a client connected at `since_ms` must not pass without a gap.
    pub(super) fn losses_of(&self, scope: &Scope, since_ms: u64) -> Vec<Position> {
        if self.redis.is_primary(other(self.redis.primary)) || self.schedule.now_ms() < self.split_until_ms {
            return Vec::new(); // A client on the other side follows another branch.
        }
        // Redis may have lost its record of the loss too.
        let meta = self.redis.deployment.node(self.redis.primary).meta(scope.as_str());
        let is_marked = |end: Position| meta.is_some_and(|meta| is_torn(meta, end));
        let known = self.losses.0.iter().filter(|loss| loss.scope == *scope && loss.noted_ms < since_ms);
        known.map(|loss| loss.end).filter(|end| is_marked(*end)).collect()
    }

    /// Records that an instance tells its clients that their position is lost. Redis must have a record of the loss
    /// before.
    pub(super) fn note_loss(&mut self, instance_run: InstanceRun, scope: &Scope, after: Position) {
        let primary = self.redis.primary;
        let calls_at = self.instances[instance_run.instance].link.up.as_ref().map(|up| up.calls_at);
        // With two primaries it is unknown which one has the record. With clocks that jump, generations are in no
        // order.
        let is_only = self.redis.is_primary(primary) && !self.redis.is_primary(other(primary));
        let is_plain = is_only && self.redis.skew_ms == [0; 2] && !self.unstored.contains(scope);
        let is_noted = calls_at == Some(primary) && is_plain;
        let Some(meta) = self.redis.deployment.node(primary).meta(scope.as_str()).filter(|_| is_noted) else { return };
        let Some(end) = self.redis.publish_log.fork(scope.as_str(), after, meta.top()) else { return };
        // A generation that was lost as a whole looks like an erased one of the same second.
        if end.generation != after.generation && end.generation >> 16 == after.generation >> 16 {
            return;
        }
        if !is_torn(meta, end) {
            return self.fail(format!(
                "{scope}: the loss after {end} was announced to clients, but Redis has no record of it"
            ));
        }
        self.losses.0.push(Loss { scope: scope.clone(), end, noted_ms: self.schedule.now_ms() });
    }
}

/// Whether a client that passes this end gets a gap, there or later on its path.
fn is_torn(meta: &Meta, end: Position) -> bool {
    meta.torn.iter().any(|generation| *generation >= end.generation)
}
