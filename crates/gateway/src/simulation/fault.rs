//! Injects faults and heals them.

use redis_model::{Loses, NodeIndex};

use super::plan::Mode;
use super::redis::{A, B, other};
use super::restoring::VANISHED_MS;
use super::schedule::SimulatedEvent;
use super::tally::{Fault, Race};
use super::world::World;

mod instances;

/// The end of a fault, or its next step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heal {
    /// The connection between an instance and Redis works again.
    LinkMended(usize),
    /// No calls and replies are lost any more.
    CallsArrive(usize),
    /// Redis is as fast as before.
    Quick,
    /// A node has memory again.
    HasRoom(NodeIndex),
    /// The replica receives the changes that it lacks.
    Replicates,
    /// The replica that a subscriber is connected to receives nothing any more.
    ReplicaStarves(usize),
    /// A process is started again.
    Starts(NodeIndex, Loses),
    /// A process is started as the replica of the other node.
    StartsAsReplica(NodeIndex),
    /// The old primary becomes a replica.
    SplitEnds { back: bool },
    /// The first primary takes over again.
    FailsBack,
}

/// Faults that must not cause any loss. A fault whose precondition is rare is listed twice.
const LOSSLESS: &[Fault] = &[
    Fault::InstanceKilled,
    Fault::InstanceFenced,
    Fault::SubscriptionLost,
    Fault::ClientDisconnected,
    Fault::ClientVanished,
    Fault::ClientStalled,
    Fault::PositionForged,
    Fault::SubscribeRace,
    Fault::LinkDisconnected,
    Fault::SubscribersKilled,
    Fault::MessageDropped,
    Fault::LastMessageDropped,
    Fault::CallLost,
    Fault::AnswerLost,
    Fault::RedisSlow,
    Fault::RedisFull,
    Fault::LibraryFlushed,
    Fault::UnstoredPublished,
    Fault::RestartedWhole,
    Fault::FailedOverWhole,
    Fault::SubscriberStuck,
    Fault::SubscriberStuck,
];

/// Faults with which Redis loses data. A fault that needs other faults before it is listed more than once.
const LOSING: &[Fault] = &[
    Fault::ReplicationStopped,
    Fault::ReplicationStopped,
    Fault::ReplicationStopped,
    Fault::FailedOverLosing,
    Fault::FailedOverLosing,
    Fault::FailedOverLosing,
    Fault::Split,
    Fault::FailedBack,
    Fault::FailedBack,
    Fault::FailedBack,
    Fault::FailedBack,
    Fault::FailedBack,
    Fault::FailedBack,
    Fault::RestartedEmpty,
    Fault::RestartedOlder,
    Fault::Erased,
    Fault::MetadataExpired,
    Fault::StreamExpired,
    Fault::ClockAhead,
    Fault::ClockBack,
];

impl World {
    pub(super) fn break_something(&mut self) {
        if self.is_quiet {
            return;
        }
        let delay_ms = self.random.below(2 * self.plan.fault_every_ms);
        self.schedule.after(delay_ms, SimulatedEvent::Break);
        if self.random.one_in(6) && self.redis.runs[self.redis.primary.0] {
            self.redis.deployment.node_mut(self.redis.primary).save();
        }
        let is_losing = self.plan.mode == Mode::Losing && self.random.one_in(2);
        let fault = *self.random.pick(if is_losing { LOSING } else { LOSSLESS });
        let instance = self.random.index(self.instances.len());
        let client = self.random.index(self.clients.len());
        let primary = self.redis.primary;
        let is_whole = self.redis.is_primary(primary);
        match fault {
            Fault::InstanceKilled => self.kill_instance(instance),
            Fault::InstanceFenced => self.fence_instance(instance),
            Fault::SubscriptionLost => self.lose_subscription(instance),
            Fault::ClientDisconnected if self.clients[client].socket.is_some() => {
                self.fault(fault);
                self.lose_connection(client, 600);
            }
            // The instance is not informed: it notices this by its pings.
            Fault::ClientVanished if self.clients[client].socket.is_some() => {
                self.fault(fault);
                self.lose_connection(client, VANISHED_MS);
            }
            Fault::ClientStalled => drop(self.stall(client)),
            Fault::PositionForged if self.clients[client].socket.is_some() => {
                self.fault(fault);
                self.clients[client].forges = true;
                self.lose_connection(client, 5);
            }
            Fault::SubscribeRace => self.race_subscriptions(client),
            Fault::LinkDisconnected => self.disconnect_link(instance),
            Fault::SubscribersKilled => self.kill_subscribers(),
            Fault::MessageDropped => {
                let instance_run = self.instances[instance].instance_run.number;
                self.drops.insert(instance_run, (self.random.within(1, 4), None));
            }
            Fault::LastMessageDropped => self.drop_last(instance),
            Fault::CallLost | Fault::AnswerLost => {
                let link = &mut self.instances[instance].link;
                (link.lost_calls, link.lost_answers) = (250, 250);
                self.heal_after(1_500, Heal::CallsArrive(instance));
            }
            Fault::RedisSlow => {
                self.fault(fault);
                self.slow_ms = self.random.within(20, 400);
                self.heal_after(1_500, Heal::Quick);
            }
            Fault::RedisFull if is_whole => {
                self.fault(fault);
                self.redis.deployment.node_mut(primary).is_full = true;
                self.heal_after(800, Heal::HasRoom(primary));
            }
            Fault::LibraryFlushed => {
                self.fault(fault);
                [A, B].into_iter().for_each(|node| self.redis.deployment.node_mut(node).forget_library());
            }
            Fault::UnstoredPublished if is_whole => self.publish_unstored_message(),
            Fault::SubscriberStuck => self.stray(instance),
            fault if is_whole => self.break_redis(fault, primary),
            _ => {}
        }
    }

    fn break_redis(&mut self, fault: Fault, primary: NodeIndex) {
        let replica = other(primary);
        let has_replica = self.redis.runs[replica.0] && self.redis.deployment.followed(replica) == Some(primary);
        let scope = self.random.pick(&self.scopes).clone();
        let mut pushes = Vec::new();
        match fault {
            Fault::RestartedWhole => self.crash(fault, primary, Loses::Nothing),
            Fault::RestartedEmpty => self.crash(fault, primary, Loses::Everything),
            Fault::RestartedOlder => self.crash(fault, primary, Loses::SinceSnapshot),
            Fault::FailedOverWhole if has_replica => {
                self.fault(fault);
                self.redis.deployment.replicate(replica, usize::MAX, &mut pushes);
                self.fail_over(primary);
            }
            Fault::ReplicationStopped if has_replica && self.redis.replicates => {
                self.fault(fault);
                self.redis.replicates = false;
                self.heal_after(3_000, Heal::Replicates);
            }
            Fault::FailedOverLosing if has_replica => self.fail_over_losing(primary),
            Fault::Split | Fault::FailedBack if has_replica => {
                let back = fault == Fault::FailedBack || self.random.one_in(2);
                self.split(primary, back);
            }
            Fault::Erased => {
                self.fault(fault);
                self.redis.deployment.erase_all(primary, &mut pushes);
            }
            Fault::MetadataExpired => {
                self.fault(fault);
                self.redis.deployment.erase_meta(primary, scope.as_str(), &mut pushes);
            }
            Fault::StreamExpired => {
                self.fault(fault);
                self.redis.deployment.erase_stream(primary, scope.as_str(), &mut pushes);
            }
            Fault::ClockAhead | Fault::ClockBack => {
                self.fault(fault);
                let by_ms = self.random.within(500, 90_000).cast_signed();
                self.redis.skew_ms[primary.0] += if fault == Fault::ClockAhead { by_ms } else { -by_ms };
            }
            _ => {}
        }
        self.push(pushes);
    }

    pub(super) fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::LinkMended(instance) => self.mend_link(instance),
            Heal::CallsArrive(instance) => {
                let link = &mut self.instances[instance].link;
                (link.lost_calls, link.lost_answers) = (0, 0);
            }
            Heal::Quick => self.slow_ms = 0,
            Heal::HasRoom(node) => self.redis.deployment.node_mut(node).is_full = false,
            Heal::Replicates => self.redis.replicates = true,
            Heal::ReplicaStarves(instance) => self.starve(instance),
            Heal::Starts(node, loses) => self.start(node, loses),
            Heal::StartsAsReplica(node) => {
                self.redis.restart(node, Loses::Nothing);
                self.redis.runs[node.0] = true;
                self.attach(node);
            }
            Heal::SplitEnds { back } => self.end_split(back),
            Heal::FailsBack => {
                let primary = self.redis.primary;
                let replica = other(primary);
                if self.redis.is_primary(primary) && self.redis.deployment.followed(replica) == Some(primary) {
                    self.fault(Fault::FailedBack);
                    self.split(primary, false);
                }
            }
        }
    }

    /// Ends all faults. Recoveries that have begun continue.
    pub(super) fn heal_everything(&mut self) {
        for at in 0..self.instances.len() {
            self.mend_link(at);
            let instance = &mut self.instances[at];
            (instance.link.lost_calls, instance.link.lost_answers) = (0, 0);
        }
        self.drops.clear();
        self.slow_ms = 0;
        self.redis.replicates = true;
        [A, B].into_iter().for_each(|node| self.redis.deployment.node_mut(node).is_full = false);
    }

    fn heal_after(&mut self, most_ms: u64, heal: Heal) {
        let delay_ms = self.random.within(most_ms / 5, most_ms);
        self.schedule.after(delay_ms, SimulatedEvent::Heal(heal));
    }

    // === Links ===

    fn disconnect_link(&mut self, instance: usize) {
        if self.instances[instance].link.is_disconnected {
            return;
        }
        self.fault(Fault::LinkDisconnected);
        self.instances[instance].link.is_disconnected = true;
        self.heal_after(5_000, Heal::LinkMended(instance));
        // A reset is noticed at once. Silence is noticed when the probe does not return.
        if self.random.one_in(2) {
            let instance_run = self.instances[instance].instance_run;
            self.end_link(instance_run, None, "reset");
        }
    }

    /// Restores the connection to Redis. The old connection ends, because bytes were lost on it.
    fn mend_link(&mut self, instance: usize) {
        if std::mem::take(&mut self.instances[instance].link.is_disconnected) {
            let instance_run = self.instances[instance].instance_run;
            self.end_link(instance_run, None, "reset");
        }
    }

    fn kill_subscribers(&mut self) {
        self.fault(Fault::SubscribersKilled);
        let cut = self.redis.deployment.node_mut(self.redis.primary).kill_subscribers();
        for at in 0..self.instances.len() {
            let (instance_run, up) = (self.instances[at].instance_run, self.instances[at].link.up.as_ref());
            let Some(number) = up.filter(|up| cut.contains(&up.subscriber)).map(|up| up.number) else { continue };
            let delay_ms = self.random.within(1, 20);
            self.schedule.after(delay_ms, SimulatedEvent::LinkEnds(instance_run, number, "killed"));
        }
    }

    /// Drops the last message of a scope, and publishes nothing there for a while.
    fn drop_last(&mut self, instance: usize) {
        let instance_run = self.instances[instance].instance_run.number;
        let Some(up) = &self.instances[instance].link.up else { return };
        let received = up.received.iter().filter_map(|text| self.families.parse_scope(text));
        let received: Vec<_> = received.filter(|scope| self.scopes.contains(scope)).collect();
        if received.is_empty() || self.hushed.is_some() {
            return;
        }
        let scope = self.random.pick(&received).clone();
        self.drops.insert(instance_run, (1, Some(scope.clone())));
        self.publish_at_backend(&scope, 1);
        self.hushed = Some((scope, self.schedule.now_ms() + 1_500));
    }

    /// Connects a subscriber to the replica, which then receives nothing any more.
    fn stray(&mut self, instance: usize) {
        let primary = self.redis.primary;
        let replica = other(primary);
        let has_replica = self.redis.runs[replica.0] && self.redis.deployment.followed(replica) == Some(primary);
        if has_replica && self.redis.replicates && !self.instances[instance].link.is_disconnected {
            self.instances[instance].link.strays = true;
            let instance_run = self.instances[instance].instance_run;
            self.end_link(instance_run, None, "sent elsewhere");
            self.heal_after(1_500, Heal::ReplicaStarves(instance));
        }
    }

    fn starve(&mut self, instance: usize) {
        let up = self.instances[instance].link.up.as_ref();
        if !self.is_quiet && self.redis.replicates && up.is_some_and(|up| up.subscribed_at != up.calls_at) {
            self.fault(Fault::SubscriberStuck);
            self.redis.replicates = false;
            self.heal_after(5_000, Heal::Replicates);
        }
    }

    // === Redis ===

    fn publish_unstored_message(&mut self) {
        let scope = self.random.pick(&self.scopes).clone();
        let mut pushes = Vec::new();
        if self.redis.publish_unstored_message(self.redis.primary, &scope, &mut pushes) {
            self.unstored.insert(scope);
            self.fault(Fault::UnstoredPublished);
        }
        self.push(pushes);
    }

    /// Ends a Redis process. It is started again later, with the data that it keeps.
    fn crash(&mut self, fault: Fault, node: NodeIndex, loses: Loses) {
        self.fault(fault);
        self.redis.runs[node.0] = false;
        self.disconnect_links_of(node);
        self.heal_after(800, Heal::Starts(node, loses));
    }

    fn start(&mut self, node: NodeIndex, loses: Loses) {
        let before = self.seen_by_clients();
        self.redis.restart(node, loses);
        self.redis.runs[node.0] = true;
        self.look_back(&before);
        // The replica copies the data that its primary has now.
        if self.redis.runs[other(node).0] {
            self.redis.follow(other(node), node);
        }
    }

    /// Ends the primary and promotes the replica.
    fn fail_over(&mut self, primary: NodeIndex) {
        let replica = other(primary);
        self.redis.runs[primary.0] = false;
        self.disconnect_links_of(primary);
        let before = self.seen_by_clients();
        self.redis.promote(replica);
        self.redis.primary = replica;
        self.look_back(&before);
        self.heal_after(1_500, Heal::StartsAsReplica(primary));
    }

    /// Fails over to a replica that lacks the last writes.
    fn fail_over_losing(&mut self, primary: NodeIndex) {
        if self.random.one_in(2) {
            let mut pushes = Vec::new();
            self.redis.deployment.replicate(other(primary), usize::MAX, &mut pushes);
            self.push(pushes);
        }
        // Clients that disconnect now reconnect with positions before the lost messages.
        for _ in 0..2 {
            let client = self.random.index(self.clients.len());
            self.lose_connection(client, 5);
        }
        for _ in 0..self.random.within(1, 6) {
            let scope = self.random.pick(&self.scopes).clone();
            self.publish_at_backend(&scope, 1);
        }
        if self.redis.deployment.lag(other(primary)) > 0 {
            self.fault(Fault::FailedOverLosing);
            self.fail_over(primary);
        }
    }

    /// Promotes the replica without the knowledge of the old primary. Some instances use the old one, and some the
    /// new one.
    fn split(&mut self, old: NodeIndex, back: bool) {
        self.fault(Fault::Split);
        self.split_until_ms = self.schedule.now_ms() + 6_000;
        let before = self.seen_by_clients();
        self.redis.promote(other(old));
        self.redis.primary = other(old);
        self.look_back(&before);
        for at in 0..self.instances.len() {
            let instance_run = self.instances[at].instance_run;
            if self.random.one_in(2) {
                self.end_link(instance_run, None, "sent to the new primary");
            }
        }
        self.heal_after(if back { 800 } else { 3_000 }, Heal::SplitEnds { back });
    }

    fn end_split(&mut self, back: bool) {
        let old = other(self.redis.primary);
        if self.redis.is_primary(old) && self.redis.is_primary(self.redis.primary) {
            self.attach(old);
            if back {
                self.heal_after(100, Heal::FailsBack);
            }
        }
    }

    /// Makes a node the replica of the primary. Data that only this node had is lost.
    fn attach(&mut self, node: NodeIndex) {
        if self.redis.is_primary(self.redis.primary) && node != self.redis.primary {
            self.redis.follow(node, self.redis.primary);
        }
    }

    /// Returns the newest position of each client's view, by scope.
    fn seen_by_clients(&self) -> Vec<(wire::Scope, wire::Position)> {
        let views = self.clients.iter().flat_map(|client| client.views.values());
        views.filter_map(|view| Some((view.scope.clone(), view.stored?))).collect()
    }

    /// Counts the scopes in which the primary will assign positions again that clients have seen.
    fn look_back(&mut self, seen: &[(wire::Scope, wire::Position)]) {
        let node = self.redis.deployment.node(self.redis.primary);
        let is_rewound = |(scope, position): &&(wire::Scope, wire::Position)| {
            let meta = node.meta(scope.as_str());
            meta.is_some_and(|meta| meta.generation == position.generation && meta.offset < position.offset)
        };
        let rewound = seen.iter().filter(is_rewound).count();
        (0..rewound).for_each(|_| self.race(Race::OffsetsRewound));
        self.tally.lost_by_redis += rewound as u64;
    }
}
