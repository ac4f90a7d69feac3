//! Faults of instances, and races of subscriptions.

use message_router::Event;

use crate::dispatch::pump::Pump;
use crate::shard::departures::SPREAD;
use crate::simulation::client::Client;
use crate::simulation::instance::Instance;
use crate::simulation::registry::REAP_MS;
use crate::simulation::schedule::{InstanceRun, SimulatedEvent};
use crate::simulation::tally::{Fault, Race};
use crate::simulation::world::World;

impl World {
    pub(super) fn kill_instance(&mut self, instance: usize) {
        self.fault(Fault::InstanceKilled);
        let instance_run = InstanceRun { instance, number: self.next_number() };
        let next = Instance::new(instance_run, &self.plan, &self.registry);
        let dead = std::mem::replace(&mut self.instances[instance], next);
        if let Some(up) = dead.link.up {
            self.redis.deployment.node_mut(up.subscribed_at).close(up.subscriber);
        }
        for wire in dead.shards.iter().flat_map(|shard_slot| shard_slot.wires.values()) {
            let delay_ms = self.random.within(1, 60);
            self.schedule.after(delay_ms, SimulatedEvent::EndSeenByClient(*wire));
        }
        let number = dead.instance_run.number;
        self.joining.retain(|(instance_run, ..), _| *instance_run != number);
        self.wanted.retain(|(instance_run, _), _| *instance_run != number);
        self.delivered.retain(|(instance_run, _), _| *instance_run != number);
        self.schedule.after(REAP_MS, SimulatedEvent::Reaped(Box::new(dead.member)));
        self.new_incarnation(instance_run);
    }

    /// Fences an instance: it was stopped past its lease.
    pub(super) fn fence_instance(&mut self, instance: usize) {
        self.fault(Fault::InstanceFenced);
        let instance_run = self.instances[instance].instance_run;
        self.pump_step(instance_run, Pump::run_restart);
        for at in 0..self.instances[instance].shards.len() {
            self.shard_step(instance_run, at, |shard, _| shard.fence(SPREAD));
        }
    }

    /// Ends one subscription, as when a slot moves. Everything else stays.
    pub(super) fn lose_subscription(&mut self, instance: usize) {
        let instance_run = self.instances[instance].instance_run;
        let Some(up) = &mut self.instances[instance].link.up else { return };
        let received: Vec<_> = up.received.iter().filter_map(|text| self.families.parse_scope(text)).collect();
        if received.is_empty() {
            return;
        }
        let scope = self.random.pick(&received).clone();
        let (number, subscriber, subscribed_at) = (up.number, up.subscriber, up.subscribed_at);
        up.received.remove(scope.as_str());
        self.redis.deployment.node_mut(subscribed_at).unsubscribe(subscriber, scope.as_str());
        self.fault(Fault::SubscriptionLost);
        self.push_later(instance_run, number, Event::Lost(scope));
    }

    pub(super) fn race_subscriptions(&mut self, client: usize) {
        let Client { socket, asking, stream, .. } = &self.clients[client];
        if socket.is_none() || asking.is_some() || stream.is_some() {
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
            self.send_frame(client, &frame);
            self.subscribe(client, channel.clone(), None);
        }
    }
}
