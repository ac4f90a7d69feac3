//! One turn at a time of an instance's pump and of its shards, and what these hand to each other.

use message_router::{Gap, ShardIndex};
use wire::Scope;

use super::instance::{Desk, Seat};
use super::schedule::{Happening, Life};
use super::tally::Race;
use super::world::{SWEEP_MS, World};
use crate::hub::{FromShard, Outcome, ToShard};
use crate::pump::Pump;

impl World {
    /// One turn of an instance's pump.
    pub(super) fn turn(&mut self, life: Life, act: impl FnOnce(&mut Pump<Desk>)) {
        let Some(instance) = self.instance(life) else { return };
        act(&mut instance.pump);
        let (commands, handed) = instance.hand_over();
        for (shard, items) in handed {
            for item in items {
                self.note_local(life, &item);
                if let ToShard::Gap(scope, Gap { after: Some(after), .. }) = &item {
                    self.note_loss(life, scope, *after);
                }
                let delay_ms = self.random.below(4);
                let now_ms = self.schedule.now_ms();
                let seat = &mut self.instances[life.instance].shards[shard.0 as usize];
                let at_ms = seat.from_pump.through(now_ms, delay_ms);
                self.schedule.at(at_ms, Happening::ToShard(life, shard, item));
            }
        }
        for command in commands {
            self.command(life, command);
        }
    }

    /// Messages that stay on an instance: its clients will be told.
    fn note_local(&mut self, life: Life, item: &ToShard) {
        if let ToShard::Published(_, answer) = item
            && matches!(answer.outcome, Outcome::Local { .. })
        {
            self.tally.local += 1;
            self.local.insert((life.number, answer.channel.scope.clone()), ());
        }
    }

    pub(super) fn sweep(&mut self, life: Life) {
        if self.instance(life).is_none() {
            return;
        }
        self.turn(life, Pump::turn_of_sweeping);
        let instance = &mut self.instances[life.instance];
        let ghosts = instance.pump.router().counts().ghosts;
        let new = ghosts - std::mem::replace(&mut instance.ghosts, ghosts);
        (0..new).for_each(|_| self.race(Race::NeverStored));
        let now_ms = self.schedule.now_ms();
        let ripe: Vec<_> = self.dropped_last.extract_if(.., |(_, at_ms)| now_ms >= *at_ms + 1_000).collect();
        for (scope, at_ms) in ripe {
            if self.redis.stored_ms.get(&scope).is_none_or(|stored_ms| *stored_ms <= at_ms) {
                self.race(Race::LastOneDropped);
            }
        }
        self.schedule.after(SWEEP_MS, Happening::Sweep(life));
    }

    /// A shard asks the pump.
    pub(super) fn reach_pump(&mut self, life: Life, shard: ShardIndex, request: FromShard) {
        if let FromShard::Join { scope, after, .. } = &request
            && self.handed.get(&(life.number, scope.clone())).is_some_and(|handed| Some(*handed) < after.highest())
        {
            self.race(Race::InstanceBehind);
        }
        self.turn(life, |pump| pump.take(shard, request));
    }

    /// Something is handed to a shard.
    pub(super) fn reach_shard(&mut self, life: Life, index: ShardIndex, item: ToShard) {
        if self.instance(life).is_none() {
            return;
        }
        self.note(|| story(life, index, &item));
        match &item {
            ToShard::Deliver { scope, messages, .. } => {
                let last = messages.last().and_then(|message| message.position);
                let handed = self.handed.entry((life.number, scope.clone())).or_default();
                *handed = (*handed).max(last.unwrap_or_default());
                let waits = |((number, shard, _), wanted): (&(u64, ShardIndex, _), &Scope)| {
                    *number == life.number && *shard == index && wanted == scope
                };
                if self.joining.iter().any(waits) {
                    self.race(Race::OvertakenAnswer);
                }
            }
            ToShard::Joined(joiner, joined) if joined.upto.is_some() && !joined.more => {
                self.joining.remove(&(life.number, index, *joiner));
            }
            _ => {}
        }
        self.seat_turn(life, index.0 as usize, |Seat { shard, seats, .. }, _| match item {
            ToShard::Dismiss(closing, upto) => drop(seats.dismiss(shard, closing, upto)),
            ToShard::Restored(told) => seats.restored(shard, told.0, told.1),
            ToShard::Deliver { scope, messages, .. } => drop(shard.deliver(&scope, &messages)),
            ToShard::Joined(joiner, joined) => shard.joined(joiner, *joined),
            ToShard::Gap(scope, gap) => shard.gap(&scope, gap),
            ToShard::Isolated(scope) => shard.isolated(&scope),
            ToShard::Degraded(degraded) => shard.degraded(degraded),
            ToShard::Published(to, answer) => shard.published(to, &answer),
            other => unreachable!("nobody says {other:?}"),
        });
    }
}

/// What a shard is handed, in a line.
fn story(life: Life, shard: ShardIndex, item: &ToShard) -> String {
    let what = match item {
        ToShard::Deliver { scope, messages, .. } => {
            let positions: Vec<_> = messages.iter().map(|message| message.position.map(|p| p.to_string())).collect();
            format!("messages of {scope}: {positions:?}")
        }
        ToShard::Joined(joiner, joined) => {
            let (start, lost, upto) = (joined.start, &joined.lost, joined.upto.map(|upto| upto.to_string()));
            let (count, more) = (joined.messages.len(), joined.more);
            format!("{joiner:?}: {start:?}, lost {lost:?}, {count} messages upto {upto:?}, more {more}")
        }
        other => format!("{other:?}"),
    };
    format!("shard {} of instance {} is handed {what}", shard.0, life.instance)
}
