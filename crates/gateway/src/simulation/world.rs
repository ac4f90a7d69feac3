//! One run: a cluster, its clients, Redis, and everything that happens to them, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use message_router::{Joiner, ShardIndex};
use wire::{Families, Position, Scope, TenantId};

use super::client::{Client, ClientKind};
use super::instance::Instance;
use super::losses::Losses;
use super::plan::Plan;
use super::random::Random;
use super::redis::{Redis, UNIX_MS, message};
use super::registry::Registry;
use super::schedule::{InstanceRun, Schedule, SimulatedEvent};
use super::tally::{Fault, Race, Tally};
use crate::host::clock::Now;

/// Interval of the routers' sweeps, in milliseconds.
pub(super) const SWEEP_MS: u64 = 250;
/// Time from the last fault until every client must have everything, in milliseconds.
const QUIET_MS: u64 = 12_000;
/// Time from the last message to the end of the run, in milliseconds.
const LAST_MS: u64 = 6_000;

/// Scopes of the published messages, and their topics.
pub(super) const SCOPES: &[&str] = &["user:u0", "user:u1", "collection:1", "collection:2", "system", "note:1"];
pub(super) const TOPICS: &[&str] = &["", "ops", "ops:cursor"];

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) schedule: Schedule,
    pub(super) tally: Tally,
    pub(super) families: Families,
    pub(super) scopes: Vec<Scope>,
    pub(super) redis: Redis,
    pub(super) registry: Registry,
    pub(super) instances: Vec<Instance>,
    pub(super) clients: Vec<Client>,
    /// The first anomaly, which ends the run.
    pub(super) anomaly: Option<String>,
    /// Incarnations that could not reach the registry for a while.
    pub(super) outages: BTreeSet<u64>,
    /// Counter for incarnations, connections, links and messages.
    pub(super) number: u64,
    /// Number of published messages, stored or not.
    pub(super) messages: u64,
    /// Whether the phase of faults is over.
    pub(super) is_quiet: bool,
    /// Clients that wait for the reply of a shard, by incarnation and shard.
    pub(super) joining: HashMap<(u64, ShardIndex, Joiner), Scope>,
    /// The newest position that each instance has delivered to its shards, by incarnation and scope.
    pub(super) delivered: HashMap<(u64, Scope), Position>,
    /// Scopes that clients of an instance want and Redis has not received yet, by incarnation.
    pub(super) wanted: HashMap<(u64, Scope), ()>,
    /// Scopes with messages that only one instance delivered, by incarnation.
    pub(super) local: HashMap<(u64, Scope), ()>,
    /// Scopes in which a message was published that was never stored. To an instance this looks as if Redis had lost
    /// it.
    pub(super) unstored: HashSet<Scope>,
    /// Losses of Redis that clients have been informed about.
    pub(super) losses: Losses,
    /// Time until which instances may still hold information of the other of two primaries.
    pub(super) split_until_ms: u64,
    /// The scope in which nothing is published for a while, and the end of this time.
    pub(super) hushed: Option<(Scope, u64)>,
    /// Last messages that were dropped: scope and time.
    pub(super) dropped_last: Vec<(Scope, u64)>,
    /// Number of further pushes to drop, by incarnation; only of the scope, if one is given.
    pub(super) drops: BTreeMap<u64, (u64, Option<Scope>)>,
    /// Delay added to every path to and from Redis, in milliseconds.
    pub(super) slow_ms: u64,
    /// Messages that were published again, because the result was unknown.
    pub(super) retries: BTreeSet<u64>,
    /// Messages that publishers were told are not stored.
    pub(super) refused: Vec<u64>,
    /// The log of the run, for a seed that is run alone.
    pub(super) log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, options: super::Options, is_logged: bool) -> Self {
        let super::Options { mutant, outbox_bytes_max } = options;
        let mut random = Random::new(seed);
        let plan = Plan::new(seed, mutant, outbox_bytes_max, &mut random);
        let policies = super::instance::config(&plan, 0).policies;
        let families = policies.families().clone();
        let scope = |name: &&str| families.parse(&TenantId::default(), name).expect("a channel").scope;
        let scopes = SCOPES.iter().map(scope).collect();
        let redis = Redis::new(&policies, &plan, Random::new(random.next()));
        let mut world = Self {
            random,
            schedule: Schedule::default(),
            tally: Tally::default(),
            families,
            scopes,
            redis,
            registry: Registry::new(),
            instances: Vec::new(),
            clients: Vec::new(),
            anomaly: None,
            outages: BTreeSet::new(),
            number: 0,
            messages: 0,
            is_quiet: false,
            joining: HashMap::new(),
            delivered: HashMap::new(),
            wanted: HashMap::new(),
            local: HashMap::new(),
            unstored: HashSet::new(),
            losses: Losses::default(),
            split_until_ms: 0,
            hushed: None,
            dropped_last: Vec::new(),
            drops: BTreeMap::new(),
            slow_ms: 0,
            retries: BTreeSet::new(),
            refused: Vec::new(),
            log: is_logged.then(Vec::new),
            plan,
        };
        world.set_clock();
        for instance in 0..world.plan.instances {
            let instance_run = InstanceRun { instance, number: world.next_number() };
            world.instances.push(Instance::new(instance_run, &world.plan, &world.registry));
            world.new_incarnation(instance_run);
        }
        let kinds = [
            (ClientKind::StoresPositions, world.plan.clients),
            (ClientKind::Restores, world.plan.restoring_clients),
            (ClientKind::Streams, world.plan.streaming_clients),
        ];
        for kind in kinds.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count)) {
            let index = world.clients.len();
            let wanted = world.channels_of(index);
            world.clients.push(Client::new(index, wanted, kind));
            world.clients[index].is_connecting = true;
            let delay_ms = world.random.below(300);
            world.schedule.after(delay_ms, SimulatedEvent::Connect(index));
        }
        for what in [SimulatedEvent::BackendPublishes, SimulatedEvent::Replicate, SimulatedEvent::Break] {
            world.schedule.after(10, what);
        }
        world
    }

    /// Runs to the end. Returns the first anomaly.
    pub(super) fn run(&mut self) -> Option<String> {
        self.until(self.plan.faults_ms);
        self.heal_everything();
        self.is_quiet = true;
        self.until(self.plan.faults_ms + QUIET_MS);
        if self.anomaly.is_none() {
            // By now the comparison with Redis has found losses that no later message showed.
            self.check_end();
            self.publish_last();
            self.until(self.plan.faults_ms + QUIET_MS + LAST_MS);
        }
        if self.anomaly.is_none() {
            self.check_end();
        }
        self.anomaly.take()
    }

    fn until(&mut self, until_ms: u64) {
        while self.anomaly.is_none() {
            let Some(what) = self.schedule.next(until_ms) else { return };
            self.set_clock();
            self.tally.events += 1;
            self.happen(what);
        }
    }

    fn happen(&mut self, what: SimulatedEvent) {
        match what {
            SimulatedEvent::Attempt(instance_run) => self.attempt(instance_run),
            SimulatedEvent::Probe(instance_run, link) => self.probe(instance_run, link),
            SimulatedEvent::AtRedis(instance_run, link, node, ask) => self.at_redis(instance_run, link, node, ask),
            SimulatedEvent::Pushed(instance_run, link, event) => self.received(instance_run, link, event),
            SimulatedEvent::Answered(instance_run, link, ticket, event) => {
                self.answered(instance_run, link, ticket, event)
            }
            SimulatedEvent::LinkEnds(instance_run, link, why) => self.end_link(instance_run, Some(link), why),
            SimulatedEvent::ToPump(instance_run, request) => self.reach_pump(instance_run, request),
            SimulatedEvent::ToShard(instance_run, shard, item) => self.reach_shard(instance_run, shard, item),
            SimulatedEvent::Sweep(instance_run) => self.sweep(instance_run),
            SimulatedEvent::Second(instance_run) => self.second(instance_run),
            SimulatedEvent::Opened(instance_run, wire) => self.opened(instance_run, wire),
            SimulatedEvent::SendText(wire, text) => self.send_text(wire, &text),
            SimulatedEvent::Pongs(wire, payload) => self.pongs(wire, &payload),
            SimulatedEvent::Closes(wire, code) => self.closes(wire, code),
            SimulatedEvent::Vanishes(wire) => self.vanish(wire),
            SimulatedEvent::AsksAgain(wire) => self.ask_again(wire),
            SimulatedEvent::PeerHeartbeat(instance_run) => self.heartbeat(instance_run),
            SimulatedEvent::Reaped(dead) => self.registry.reap(&dead),
            SimulatedEvent::Reads(wire, bytes) => self.reads(wire, bytes),
            SimulatedEvent::Writable(wire) => self.writable(wire),
            SimulatedEvent::EndSeenByServer(wire) => self.end_seen_by_server(wire),
            SimulatedEvent::EndSeenByClient(wire) => self.end_seen_by_client(wire),
            SimulatedEvent::Connect(client) => self.connect(client),
            SimulatedEvent::Act(client) => self.act(client),
            SimulatedEvent::Resume(wire) => self.resume_reading(wire),
            SimulatedEvent::BackendPublishes => self.backend_publishes(),
            SimulatedEvent::Replicate => self.replicate(),
            SimulatedEvent::Break => self.break_something(),
            SimulatedEvent::Heal(heal) => self.heal(heal),
        }
    }

    /// Sets the virtual clock of all gateways.
    fn set_clock(&self) {
        let now_ms = self.schedule.now_ms();
        super::set_virtual_now(Now { mono_ms: 1_000 + now_ms, unix_ms: UNIX_MS + now_ms });
    }

    pub(super) fn now(&self) -> Now {
        let now_ms = self.schedule.now_ms();
        Now { mono_ms: 1_000 + now_ms, unix_ms: UNIX_MS + now_ms }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.tally.fault(fault);
        self.note(|| format!("FAULT {fault:?}"));
    }

    pub(super) fn race(&mut self, race: Race) {
        self.tally.race(race);
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>6} {}", self.schedule.now_ms(), what()));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.note(|| format!("ANOMALY {what}"));
        for scope in self.scopes.clone() {
            let story = self.redis.publish_log.story(scope.as_str());
            story.into_iter().for_each(|line| self.note(|| line));
        }
        let at_ms = self.schedule.now_ms();
        self.anomaly.get_or_insert_with(|| format!("at {at_ms} ms: {what}"));
    }

    pub(super) fn instance(&mut self, instance_run: InstanceRun) -> Option<&mut Instance> {
        self.instances.get_mut(instance_run.instance).filter(|instance| instance.instance_run == instance_run)
    }

    /// Schedules the first events of an incarnation: it connects at once, and its sweeps and seconds begin at random
    /// times.
    pub(super) fn new_incarnation(&mut self, instance_run: InstanceRun) {
        let (attempt_ms, sweep_ms, second_ms) =
            (self.random.below(50), self.random.below(SWEEP_MS), self.random.below(1_000));
        self.schedule.after(attempt_ms, SimulatedEvent::PeerHeartbeat(instance_run));
        self.schedule.after(attempt_ms, SimulatedEvent::Attempt(instance_run));
        self.schedule.after(sweep_ms, SimulatedEvent::Sweep(instance_run));
        self.schedule.after(second_ms, SimulatedEvent::Second(instance_run));
    }

    fn channels_of(&mut self, client: usize) -> BTreeMap<String, Option<Position>> {
        let mut channels = vec![
            "collection:1:*".to_owned(),
            "collection:2:ops".to_owned(),
            "collection:1".to_owned(),
            "collection:2:ops:*".to_owned(),
            "system".to_owned(),
            "system:*".to_owned(),
            "note:1:*".to_owned(),
        ];
        if client < 2 {
            channels.extend([format!("user:u{client}"), format!("user:u{client}:*")]);
        }
        let mut wanted: BTreeMap<String, Option<Position>> = BTreeMap::new();
        for _ in 0..4 {
            let channel = self.random.pick(&channels).clone();
            wanted.insert(channel, None);
        }
        wanted
    }

    /// Returns a new message with the next number.
    pub(super) fn next_message(&mut self) -> (u64, bytes::Bytes) {
        self.messages += 1;
        (self.messages, message(self.messages))
    }

    fn check_end(&mut self) {
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let mut wrong = None;
            if client.socket.is_none() {
                wrong = Some("is not connected".to_owned());
            } else if client.asking.is_some() {
                wrong = Some("never learned what its session held".to_owned());
            } else if let Some(asked) = client.asked.first() {
                wrong = Some(format!("never got a reply about {}", asked.channel));
            }
            for (channel, view) in &client.views {
                let since_ms = client.socket.as_ref().map_or(0, |socket| socket.since_ms);
                let judge = self.judge(&view.scope, since_ms);
                if let Err(error) = view.must_have_all(&judge) {
                    wrong.get_or_insert(format!("{channel}: {error}"));
                }
            }
            if let Some(wrong) = wrong {
                return self.fail(format!("client {at} at the end: {wrong}"));
            }
        }
        for number in std::mem::take(&mut self.refused) {
            if let [(scope, at), ..] = self.redis.publish_log.places(number) {
                let what = format!("message {number} was refused as not stored, but it is at {at} of {scope}");
                return self.fail(what);
            }
        }
        let degraded = self.instances.iter().position(|instance| instance.pump.router().is_degraded());
        if let Some(instance) = degraded {
            self.fail(format!("instance {instance} is still degraded"));
        }
    }
}
