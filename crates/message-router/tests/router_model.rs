//! The router with a model of Redis under random seeds. In any order of events, every member receives every message of
//! its scope once and in order, or a gap. Without a loss in Redis there is no gap.

mod support {
    pub(crate) mod member;
    pub(crate) mod model_redis;
}

use message_router::{
    Draft, Event, Joiner, Output, Policies, Publish, Router, RouterConfig, ShardIndex, Taken, Ticket,
};
use support::member::Member;
use support::model_redis::ModelRedis;
use test_support::Random;
use wire::{Envelope, Families, Position, Scope, TenantId};

const SEEDS: u64 = 400;
const STEPS_PER_SEED: usize = 600;

/// The faults of one run.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    /// Connections break, messages are dropped between Redis and the instance, and reads fail.
    Lossless,
    /// The same, and Redis trims histories and loses the last writes in failovers; clients also invent positions.
    Losing,
}

struct World {
    random: Random,
    now_ms: u64,
    scopes: Vec<Scope>,
    redis: ModelRedis,
    router: Router,
    members: Vec<Member>,
    joiners: u64,
    /// The last value reported.
    is_degraded: Option<bool>,
    /// Scopes with messages that were delivered on this instance only, since the broker was lost.
    isolated: Vec<Scope>,
    out: Vec<Output>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (families, tenant) = (Families::default(), TenantId::default());
        let scope = |name: &&str| families.parse(&tenant, name).expect("a channel").scope;
        let scopes: Vec<_> = ["user:1", "collection:2", "system"].iter().map(scope).collect();
        let mut random = Random::new(seed);
        let config = RouterConfig {
            linger_ms: 40,
            page_entries_max: 1 + random.below(4),
            held_bytes_max: if random.one_in(2) { 40 } else { 4_000 },
            resync_scopes_max: 1 + random.below(3),
            check_interval_ms: 1 + random.below(200),
            policies: policies(),
        };
        let redis = ModelRedis::new(&scopes);
        let (members, out) = (Vec::new(), Vec::new());
        let router = Router::new(config);
        Self {
            random,
            now_ms: 0,
            scopes,
            redis,
            router,
            members,
            joiners: 0,
            is_degraded: None,
            isolated: Vec::new(),
            out,
        }
    }

    fn step(&mut self, faults: Faults) {
        let scope = self.random.pick(&self.scopes).clone();
        match self.random.below(100) {
            0..12 => {
                let count = 1 + self.random.below(3);
                self.redis.publish(&scope, count);
            }
            12..18 => self.publish(scope),
            18..42 => self.receive(),
            42..52 => self.redis.run_subscriber(),
            52..64 => {
                let (fails, at) = (self.random.one_in(8), self.random.below(4));
                let page_max = 1 + self.random.below(4);
                self.redis.run_reader(at, fails, page_max);
            }
            64..78 => self.answer(),
            78..84 => self.join(scope, faults),
            84..88 => self.leave(),
            88 if self.redis.is_up && self.random.one_in(3) => self.redis.down(),
            88..92 if !self.redis.is_up => self.redis.up(),
            92 | 93 => self.redis.drop_message(),
            94 if self.random.one_in(2) => self.redis.lose_subscription(&scope),
            94..=96 if faults == Faults::Losing => self.lose(&scope),
            _ => self.pass_time(),
        }
        self.carry_out();
    }

    /// A client of this instance publishes.
    fn publish(&mut self, scope: Scope) {
        let messages = vec![Draft::new("", b"{}".to_vec())];
        let publish = Publish { ticket: Ticket(0), scope: scope.clone(), messages, replicated: false };
        if self.router.publish(publish, &mut self.out) == Taken::Local && !self.isolated.contains(&scope) {
            self.isolated.push(scope);
        }
    }

    fn receive(&mut self) {
        if let Some(event) = self.redis.from_subscriber.pop_front() {
            if let Event::Lost(scope) = &event {
                self.redis.abandon_reads(scope);
            }
            let is_up = matches!(event, Event::Up);
            self.router.handle(event, self.now_ms, &mut self.out);
            self.carry_out();
            if is_up {
                self.isolated.clear();
            }
        }
    }

    fn answer(&mut self) {
        // Answers come in any order: the contract does not define one.
        let at = self.random.below(self.redis.from_reader.len());
        if let Some(event) = self.redis.from_reader.remove(at) {
            self.router.handle(event, self.now_ms, &mut self.out);
        }
    }

    fn pass_time(&mut self) {
        self.now_ms += self.random.below(60);
        self.router.sweep(self.now_ms, &mut self.out);
    }

    fn lose(&mut self, scope: &Scope) {
        if self.random.one_in(2) {
            let kept = self.random.below(4);
            self.redis.trim(scope, kept);
        } else {
            let lost = self.random.below(4);
            self.redis.fail_over(scope, lost);
        }
    }

    fn join(&mut self, scope: Scope, faults: Faults) {
        let published = &self.redis.log(&scope).published;
        let asked = match self.random.below(6) {
            0..2 => None,
            // Received on this instance, or on another one that is ahead.
            2..5 if !published.is_empty() => Some(*self.random.pick(published)),
            _ if faults == Faults::Losing => Some(Position::new(8 + self.random.below(20), self.random.below(20))),
            _ => Some(self.redis.log(&scope).top),
        };
        self.joiners += 1;
        let shard = ShardIndex(self.random.below(2));
        let member = Member::new(shard, Joiner(self.joiners), scope.clone(), asked);
        self.router.join(shard, member.joiner, scope, asked, &mut self.out);
        self.members.push(member);
    }

    fn leave(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let gone = self.members.swap_remove(self.random.below(self.members.len()));
        if !self.members.iter().any(|m| m.shard == gone.shard && m.scope == gone.scope) {
            self.router.leave(gone.shard, &gone.scope, self.now_ms);
        }
    }

    /// Does the work of the pump and the shards.
    fn carry_out(&mut self) {
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                self.carry_out_one(output);
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Command(command) => {
                self.redis.command(command);
                let most = self.scopes.iter().map(|scope| self.redis.reads_under_way(scope)).max();
                assert!(most <= Some(2), "a scope has {most:?} reads in flight");
            }
            Output::Deliver { shards, scope, envelope, after } => {
                let published = &self.redis.logs[scope.as_str()].published;
                let items = Envelope::parse(&envelope).expect("checked").items();
                for position in items.map(|item| item.expect("checked").0).filter(|p| *p > after) {
                    for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                        member.receive(position, published);
                    }
                }
            }
            Output::Replay { shards, scope, entries } => {
                let published = &self.redis.logs[scope.as_str()].published;
                for entry in entries {
                    for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                        member.receive(entry.position, published);
                    }
                }
            }
            Output::Gap { shards, scope, gap } => {
                let ever = &self.redis.logs[scope.as_str()].ever;
                for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                    member.receive_gap(gap, ever);
                }
            }
            Output::Joined { shard, joiner, joined } => {
                let Some(member) = self.members.iter_mut().find(|m| m.joiner == joiner) else { return };
                assert_eq!((member.shard, &member.scope), (shard, &joined.scope));
                let log = &self.redis.logs[joined.scope.as_str()];
                if let Some(after) = member.joined(joined, &log.published, &log.ever) {
                    let scope = member.scope.clone();
                    member.got_degraded = 0;
                    self.router.join(shard, joiner, scope, Some(after), &mut self.out);
                }
            }
            Output::Local { shards, scope, messages } => {
                assert!(self.is_degraded == Some(true) && self.router.is_isolated(), "the broker takes messages");
                assert_eq!(messages.len(), 1);
                for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                    member.received_local = true;
                }
            }
            Output::Isolated { shards, scope } => {
                assert!(self.isolated.contains(&scope), "nothing stayed here in {scope}");
                for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                    member.received_local = false;
                    member.isolations += 1;
                }
            }
            Output::Degraded { degraded } => {
                assert_ne!(Some(degraded), self.is_degraded, "only changes are told");
                self.is_degraded = Some(degraded);
            }
        }
    }

    /// Delivers everything that is under way, and lets every scope be checked.
    fn settle(&mut self) {
        if !self.redis.is_up {
            self.redis.up();
        }
        for _ in 0..1_000 {
            while !self.redis.to_subscriber.is_empty() {
                self.redis.run_subscriber();
            }
            while !self.redis.to_reader.is_empty() {
                self.redis.run_reader(0, false, 4);
            }
            self.receive();
            while !self.redis.from_reader.is_empty() {
                self.answer();
            }
            self.pass_time();
            self.carry_out();
        }
        assert!(self.redis.from_subscriber.is_empty(), "the router never rests");
        let is_check = |event: &Event| matches!(event, Event::Tops { .. });
        assert!(self.redis.from_reader.iter().all(is_check), "the router never rests");
    }

    fn check(&self, faults: Faults) {
        let is_over = self.is_degraded == Some(false) && !self.router.is_isolated();
        assert!(is_over && !self.router.is_degraded(), "the outage is over");
        for member in &self.members {
            member.is_complete(&self.redis.log(&member.scope).published);
            let may_have_gaps = faults == Faults::Losing || !ModelRedis::keeps_history(&member.scope);
            assert!(may_have_gaps || member.gaps.is_empty(), "nothing was lost, yet {:?}", member.gaps);
        }
    }
}

fn run(seed: u64, faults: Faults) -> World {
    let mut world = World::new(seed);
    world.redis.up();
    for _ in 0..STEPS_PER_SEED {
        world.step(faults);
    }
    // If the last message is dropped, only a check can notice it.
    for scope in world.scopes.clone() {
        world.redis.publish(&scope, 1);
        world.redis.drop_message();
    }
    world.settle();
    world.check(faults);
    world
}

/// The default families, but `system` keeps no history.
fn policies() -> Policies {
    let defaults = Policies::default();
    let family = |(index, shape): (_, &wire::FamilyShape)| {
        let mut policy = *defaults.policy(index);
        if shape.name.as_str() == "system" {
            policy.history_entries_max = 0;
        }
        (shape.clone(), policy)
    };
    Policies::new(defaults.families().iter().map(family).collect())
}

/// Runs all seeds; a failing run is repeated alone with its seed.
fn run_all(faults: Faults) -> Vec<World> {
    let named = |seed| {
        let run = std::panic::AssertUnwindSafe(|| run(seed, faults));
        std::panic::catch_unwind(run).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    (1..=SEEDS).map(named).collect()
}

#[test]
fn messages_that_redis_keeps_arrive_once_and_in_order_without_a_gap() {
    let worlds = run_all(Faults::Lossless);
    // The runs must have met the situations that they are for.
    let sum = |count: fn(&World) -> u64| worlds.iter().map(count).sum::<u64>();
    assert!(sum(|w| w.router.counts().holes) > SEEDS, "dropped messages were noticed");
    assert!(sum(|w| w.router.counts().repaired) > SEEDS, "and repaired");
    assert!(sum(|w| w.router.counts().duplicates) > 0);
    assert!(sum(|w| w.router.counts().reads_failed) > 0);
    assert!(sum(|w| w.router.counts().lost) > SEEDS);
    assert!(sum(|w| w.router.counts().checks_failed) > SEEDS / 10);
    assert!(sum(|w| w.router.counts().check_holes) > SEEDS / 8, "checks found what no message had shown");
    assert!(sum(|w| w.router.counts().check_repaired) > SEEDS / 8, "and it was repaired");
    assert!(sum(|w| w.members.iter().filter(|m| m.got_degraded > 0).count() as u64) > SEEDS / 10);
    assert!(sum(|w| w.router.counts().local) > SEEDS, "messages stayed here");
    assert!(sum(|w| w.members.iter().map(|m| m.isolations).sum()) > SEEDS / 10, "and their scopes were told");
    let kept = |m: &&Member| ModelRedis::keeps_history(&m.scope);
    assert_eq!(worlds.iter().flat_map(|w| &w.members).filter(kept).map(|m| m.gaps.len()).sum::<usize>(), 0);
}

#[test]
fn losses_of_redis_are_reported_by_a_gap() {
    let worlds = run_all(Faults::Losing);
    let sum = |count: fn(&World) -> u64| worlds.iter().map(count).sum::<u64>();
    assert!(sum(|w| w.router.counts().gaps) > SEEDS / 10, "gaps were told to whole scopes");
    assert!(sum(|w| w.members.iter().map(|m| m.gaps.len() as u64).sum()) > SEEDS, "and to joiners");
}
