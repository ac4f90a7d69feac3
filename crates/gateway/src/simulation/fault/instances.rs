//! What goes wrong with instances, and with what their clients have subscribed.

use message_router::Event;

use crate::hub::SPREAD;
use crate::pump::Pump;
use crate::simulation::instance::Instance;
use crate::simulation::registry::REAP_MS;
use crate::simulation::schedule::{Happening, Life};
use crate::simulation::tally::{Fault, Race};
use crate::simulation::world::World;

impl World {
    pub(super) fn kill_instance(&mut self, instance: usize) {
        self.fault(Fault::InstanceKilled);
        let life = Life { instance, number: self.next_number() };
        let next = Instance::new(life, &self.plan, &self.registry);
        let dead = std::mem::replace(&mut self.instances[instance], next);
        if let Some(up) = dead.link.up {
            self.redis.deployment.node_mut(up.heard_at).close(up.subscriber);
        }
        for wire in dead.shards.iter().flat_map(|seat| seat.wires.values()) {
            let delay_ms = self.random.within(1, 60);
            self.schedule.after(delay_ms, Happening::EndSeenByClient(*wire));
        }
        let number = dead.life.number;
        self.joining.retain(|(life, ..), _| *life != number);
        self.wanted.retain(|(life, _), _| *life != number);
        self.handed.retain(|(life, _), _| *life != number);
        self.schedule.after(REAP_MS, Happening::Reaped(Box::new(dead.member)));
        self.begin_life(life);
    }

    /// It has slept through its lease.
    pub(super) fn fence_instance(&mut self, instance: usize) {
        self.fault(Fault::InstanceFenced);
        let life = self.instances[instance].life;
        self.turn(life, Pump::turn_of_beginning_anew);
        for at in 0..self.instances[instance].shards.len() {
            self.shard_turn(life, at, |shard, _| shard.fence(SPREAD));
        }
    }

    /// A slot moves: the subscription ends, and everything else stays.
    pub(super) fn lose_subscription(&mut self, instance: usize) {
        let life = self.instances[instance].life;
        let Some(up) = &mut self.instances[instance].link.up else { return };
        let heard: Vec<_> = up.heard.iter().filter_map(|text| self.families.parse_scope(text)).collect();
        if heard.is_empty() {
            return;
        }
        let scope = self.random.pick(&heard).clone();
        let (number, subscriber, heard_at) = (up.number, up.subscriber, up.heard_at);
        up.heard.remove(scope.as_str());
        self.redis.deployment.node_mut(heard_at).unsubscribe(subscriber, scope.as_str());
        self.fault(Fault::SubscriptionLost);
        self.hear_later(life, number, Event::Lost(scope));
    }

    pub(super) fn race_subscriptions(&mut self, client: usize) {
        if self.clients[client].socket.is_none() || self.clients[client].asking.is_some() {
            return;
        }
        let before: Vec<_> = self.clients[client].asked.iter().map(|asked| asked.channel.clone()).collect();
        let Some(channel) = self.unsubscribe_one(client) else { return };
        self.fault(Fault::SubscribeRace);
        if before.contains(&channel) {
            self.race(Race::AnswerOutlived);
        }
        self.subscribe(client, channel.clone(), None);
        for _ in 0..self.random.below(3) {
            self.race(Race::AnswerOutlived);
            let id = self.clients[client].next_id();
            let frame = serde_json::json!({"type": "unsubscribe", "channel": channel, "correlation_id": id});
            self.say(client, &frame);
            self.subscribe(client, channel.clone(), None);
        }
    }
}
