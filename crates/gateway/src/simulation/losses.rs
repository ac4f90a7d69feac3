//! What somebody has been told that Redis lost. From then on, for as long as Redis knows of it, everybody who comes back
//! from before it must be told, by whatever instance.

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
    /// What is left ends here, and something followed.
    end: Position,
    noted_ms: u64,
}

impl World {
    /// Ends over which nobody who connected at `since_ms` may come without a gap.
    pub(super) fn losses_of(&self, scope: &Scope, since_ms: u64) -> Vec<Position> {
        if self.redis.is_primary(other(self.redis.primary)) || self.schedule.now_ms() < self.split_until_ms {
            return Vec::new(); // Who is on the other side goes another way.
        }
        // What Redis was told may be lost as well.
        let meta = self.redis.deployment.node(self.redis.primary).meta(scope.as_str());
        let is_marked = |end: Position| meta.is_some_and(|meta| is_torn(meta, end));
        let known = self.losses.0.iter().filter(|loss| loss.scope == *scope && loss.noted_ms < since_ms);
        known.map(|loss| loss.end).filter(|end| is_marked(*end)).collect()
    }

    /// An instance tells its clients that what they had come to is no position any more. Redis must have been told before.
    pub(super) fn note_loss(&mut self, instance_run: InstanceRun, scope: &Scope, after: Position) {
        let primary = self.redis.primary;
        let calls_at = self.instances[instance_run.instance].link.up.as_ref().map(|up| up.calls_at);
        // With two of them, who knows which one was told; and generations by clocks that jump are in no order.
        let is_only = self.redis.is_primary(primary) && !self.redis.is_primary(other(primary));
        let is_plain = is_only && self.redis.skew_ms == [0; 2] && !self.unstored.contains(scope);
        let is_noted = calls_at == Some(primary) && is_plain;
        let Some(meta) = self.redis.deployment.node(primary).meta(scope.as_str()).filter(|_| is_noted) else { return };
        let Some(end) = self.redis.publish_log.fork(scope.as_str(), after, meta.top()) else { return };
        // One that was lost as a whole is not told from an erased one of the same second.
        if end.generation != after.generation && end.generation >> 16 == after.generation >> 16 {
            return;
        }
        if !is_torn(meta, end) {
            return self.fail(format!("{scope}: what followed {end} was lost, which is told, and Redis has not been"));
        }
        self.losses.0.push(Loss { scope: scope.clone(), end, noted_ms: self.schedule.now_ms() });
    }
}

/// Whether who comes over this end is told: there, or later on the way.
fn is_torn(meta: &Meta, end: Position) -> bool {
    meta.torn.iter().any(|generation| *generation >= end.generation)
}
