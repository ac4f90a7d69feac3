//! Single turns of an instance's pump and of its shards, and the items that they exchange.

use message_router::{Gap, ShardIndex};
use wire::Scope;

use super::instance::{CommandRecorder, ShardSlot};
use super::schedule::{InstanceRun, SimulatedEvent};
use super::tally::Race;
use super::world::{SWEEP_MS, World};
use crate::dispatch::pump::Pump;
use crate::shard::publish_reply::PublishOutcome;
use crate::shard::requests::{PumpRequest, ToShard};

impl World {
    /// Performs one turn of an instance's pump.
    pub(super) fn pump_step(&mut self, instance_run: InstanceRun, act: impl FnOnce(&mut Pump<CommandRecorder>)) {
        let Some(instance) = self.instance(instance_run) else { return };
        act(&mut instance.pump);
        let (commands, delivered) = instance.flush_to_shards();
        for (shard, items) in delivered {
            for item in items {
                self.note_local(instance_run, &item);
                if let ToShard::Gap(scope, Gap { after: Some(after), .. }) = &item {
                    self.note_loss(instance_run, scope, *after);
                }
                let delay_ms = self.random.below(4);
                let now_ms = self.schedule.now_ms();
                let shard_slot = &mut self.instances[instance_run.instance].shards[shard.0 as usize];
                let at_ms = shard_slot.from_pump.through(now_ms, delay_ms);
                self.schedule.at(at_ms, SimulatedEvent::ToShard(instance_run, shard, item));
            }
        }
        for command in commands {
            self.command(instance_run, command);
        }
    }

    /// Records messages that only this instance delivers: its clients must be informed.
    fn note_local(&mut self, instance_run: InstanceRun, item: &ToShard) {
        if let ToShard::Published(_, answer) = item
            && matches!(answer.outcome, PublishOutcome::Local { .. })
        {
            self.tally.local += 1;
            self.local.insert((instance_run.number, answer.channel.scope.clone()), ());
        }
    }

    pub(super) fn sweep(&mut self, instance_run: InstanceRun) {
        if self.instance(instance_run).is_none() {
            return;
        }
        self.pump_step(instance_run, Pump::run_sweep);
        let instance = &mut self.instances[instance_run.instance];
        let unstored = instance.pump.router().counts().unstored;
        let new = unstored - std::mem::replace(&mut instance.unstored, unstored);
        (0..new).for_each(|_| self.race(Race::NeverStored));
        let now_ms = self.schedule.now_ms();
        let ripe: Vec<_> = self.dropped_last.extract_if(.., |(_, at_ms)| now_ms >= *at_ms + 1_000).collect();
        for (scope, at_ms) in ripe {
            if self.redis.stored_ms.get(&scope).is_none_or(|stored_ms| *stored_ms <= at_ms) {
                self.race(Race::LastOneDropped);
            }
        }
        self.schedule.after(SWEEP_MS, SimulatedEvent::Sweep(instance_run));
    }

    /// Delivers a request of a shard to the pump.
    pub(super) fn reach_pump(&mut self, instance_run: InstanceRun, request: PumpRequest) {
        if let PumpRequest::Join { scope, after, .. } = &request
            && self
                .delivered
                .get(&(instance_run.number, scope.clone()))
                .is_some_and(|delivered| Some(*delivered) < after.highest())
        {
            self.race(Race::InstanceBehind);
        }
        self.pump_step(instance_run, |pump| pump.take(request));
    }

    /// Delivers an item to a shard.
    pub(super) fn reach_shard(&mut self, instance_run: InstanceRun, index: ShardIndex, item: ToShard) {
        if self.instance(instance_run).is_none() {
            return;
        }
        self.note(|| story(instance_run, index, &item));
        match &item {
            ToShard::Deliver { scope, messages, .. } => {
                let last = messages.last().and_then(|message| message.position());
                let delivered = self.delivered.entry((instance_run.number, scope.clone())).or_default();
                *delivered = (*delivered).max(last.unwrap_or_default());
                let waits = |((number, shard, _), wanted): (&(u64, ShardIndex, _), &Scope)| {
                    *number == instance_run.number && *shard == index && wanted == scope
                };
                if self.joining.iter().any(waits) {
                    self.race(Race::OvertakenAnswer);
                }
            }
            ToShard::Joined(joiner, joined) if joined.upto.is_some() && !joined.more => {
                self.joining.remove(&(instance_run.number, index, *joiner));
            }
            _ => {}
        }
        self.step_shard(instance_run, index.0 as usize, |ShardSlot { shard, registrations, .. }, now| match item {
            ToShard::CloseSession(closing, upto) => drop(registrations.close_session(shard, closing, upto)),
            ToShard::Restored(answer) => registrations.restored(shard, answer.0, answer.1, now),
            ToShard::Deliver { scope, messages, .. } => drop(shard.deliver(&scope, &messages)),
            ToShard::Joined(joiner, joined) => shard.joined(joiner, *joined),
            ToShard::Gap(scope, gap) => shard.gap(&scope, gap),
            ToShard::Isolated(scope) => shard.isolated(&scope),
            ToShard::Degraded(degraded) => shard.degraded(degraded),
            ToShard::Published(to, answer) => shard.published(to, &answer),
            other => unreachable!("a simulation does not send {other:?}"),
        });
    }
}

/// Describes an item for a shard in one line.
fn story(instance_run: InstanceRun, shard: ShardIndex, item: &ToShard) -> String {
    let what = match item {
        ToShard::Deliver { scope, messages, .. } => {
            let positions: Vec<_> = messages.iter().map(|message| message.position().map(|p| p.to_string())).collect();
            format!("messages of {scope}: {positions:?}")
        }
        ToShard::Joined(joiner, joined) => {
            let (start, lost, upto) = (joined.start, &joined.lost, joined.upto.map(|upto| upto.to_string()));
            let (count, more) = (joined.messages.len(), joined.more);
            format!("{joiner:?}: {start:?}, lost {lost:?}, {count} messages upto {upto:?}, more {more}")
        }
        other => format!("{other:?}"),
    };
    format!("shard {} of instance {} receives {what}", shard.0, instance_run.instance)
}
