//! The router against a model of Redis, under seeds: whatever the order of events, every member is handed every
//! message of its scope once and in order, or is told of a gap; and where Redis lost nothing, there is no gap.

mod support {
    pub(crate) mod member;
    pub(crate) mod model_redis;
    pub(crate) mod xorshift;
}

use message_router::{Joiner, Output, Router, RouterConfig, ShardIndex};
use support::member::Member;
use support::model_redis::ModelRedis;
use support::xorshift::Xorshift;
use wire::{Envelope, Families, Position, Scope, TenantId};

const SEEDS: u64 = 400;
const STEPS_PER_SEED: usize = 600;

/// Which faults a run has.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    /// Connections break, messages are dropped between Redis and the instance, reads fail.
    Lossless,
    /// Besides, Redis trims histories and loses the last writes in failovers; clients make positions up.
    Losing,
}

struct World {
    random: Xorshift,
    now_ms: u64,
    scopes: Vec<Scope>,
    redis: ModelRedis,
    router: Router,
    members: Vec<Member>,
    joiners: u64,
    is_degraded: bool,
    out: Vec<Output>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (families, tenant) = (Families::default(), TenantId::default());
        let scope = |name: &&str| families.parse(&tenant, name).expect("a channel").scope;
        let scopes: Vec<_> = ["user:1", "collection:2", "system"].iter().map(scope).collect();
        let mut random = Xorshift::new(seed);
        let config = RouterConfig {
            linger_ms: 40,
            page_entries_max: 1 + usize::try_from(random.below(4)).expect("small"),
            held_bytes_max: if random.one_in(2) { 40 } else { 4_000 },
            resync_scopes_max: 1 + usize::try_from(random.below(3)).expect("small"),
            ..RouterConfig::default()
        };
        let redis = ModelRedis::new(&scopes);
        let (members, out) = (Vec::new(), Vec::new());
        let router = Router::new(config);
        Self { random, now_ms: 0, scopes, redis, router, members, joiners: 0, is_degraded: true, out }
    }

    fn step(&mut self, faults: Faults) {
        let scope = self.random.pick(&self.scopes).clone();
        match self.random.below(100) {
            0..18 => {
                let count = 1 + self.random.below(3);
                self.redis.publish(&scope, count);
            }
            18..42 => self.hear(),
            42..52 => self.redis.run_subscriber(),
            52..64 => {
                let (fails, at) = (self.random.one_in(8), self.random.below(4));
                self.redis.run_reader(usize::try_from(at).expect("small"), fails);
            }
            64..78 => self.answer(),
            78..84 => self.join(scope, faults),
            84..88 => self.leave(),
            88 if self.redis.is_up && self.random.one_in(3) => self.redis.down(),
            88..92 if !self.redis.is_up => self.redis.up(),
            92 | 93 => self.redis.drop_message(),
            94 | 95 if faults == Faults::Losing => self.lose(&scope),
            _ => self.pass_time(),
        }
        self.carry_out();
    }

    fn hear(&mut self) {
        if let Some(event) = self.redis.from_subscriber.pop_front() {
            self.router.handle(event, self.now_ms, &mut self.out);
        }
    }

    fn answer(&mut self) {
        // Answers come in any order: the contract names none.
        let at = self.random.below(self.redis.from_reader.len().max(1) as u64);
        if let Some(event) = self.redis.from_reader.remove(usize::try_from(at).expect("an index")) {
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
            self.redis.trim(scope, usize::try_from(kept).expect("small"));
        } else {
            let lost = self.random.below(4);
            self.redis.fail_over(scope, lost);
        }
    }

    fn join(&mut self, scope: Scope, faults: Faults) {
        let published = &self.redis.log(&scope).published;
        let asked = match self.random.below(6) {
            0..2 => None,
            // Seen on this instance, or on another that is ahead of it.
            2..5 if !published.is_empty() => Some(*self.random.pick(published)),
            _ if faults == Faults::Losing => Some(Position::new(8 + self.random.below(20), self.random.below(20))),
            _ => Some(self.redis.log(&scope).top),
        };
        self.joiners += 1;
        let shard = ShardIndex(u8::try_from(self.random.below(2)).expect("small"));
        let member = Member::new(shard, Joiner(self.joiners), scope.clone(), asked);
        self.router.join(shard, member.joiner, scope, asked, &mut self.out);
        self.members.push(member);
    }

    fn leave(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let index = self.random.below(self.members.len() as u64);
        let gone = self.members.swap_remove(usize::try_from(index).expect("an index"));
        if !self.members.iter().any(|m| m.shard == gone.shard && m.scope == gone.scope) {
            self.router.leave(gone.shard, &gone.scope, self.now_ms);
        }
    }

    /// Does what pump and shards do.
    fn carry_out(&mut self) {
        while !self.out.is_empty() {
            for output in std::mem::take(&mut self.out) {
                self.carry_out_one(output);
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Command(command) => self.redis.command(command),
            Output::Deliver { shards, scope, envelope, after } => {
                let published = &self.redis.logs[scope.as_str()].published;
                let items = Envelope::parse(&envelope).expect("checked").items();
                for position in items.map(|item| item.expect("checked").0).filter(|p| *p > after) {
                    for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                        member.hear(position, published);
                    }
                }
            }
            Output::Replay { shards, scope, entries } => {
                let published = &self.redis.logs[scope.as_str()].published;
                for entry in entries {
                    for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                        member.hear(entry.position, published);
                    }
                }
            }
            Output::Gap { shards, scope, gap } => {
                for member in self.members.iter_mut().filter(|m| shards.contains(m.shard) && m.scope == scope) {
                    member.hear_gap(gap);
                }
            }
            Output::Joined { shard, joiner, joined } => {
                let Some(member) = self.members.iter_mut().find(|m| m.joiner == joiner) else { return };
                assert_eq!((member.shard, &member.scope), (shard, &joined.scope));
                let published = &self.redis.logs[joined.scope.as_str()].published;
                if let Some(after) = member.joined(joined, published) {
                    let scope = member.scope.clone();
                    member.told_degraded = 0;
                    self.router.join(shard, joiner, scope, Some(after), &mut self.out);
                }
            }
            Output::Degraded { degraded } => {
                assert_ne!(degraded, self.is_degraded, "only changes are told");
                self.is_degraded = degraded;
            }
        }
    }

    /// Lets everything that is on its way arrive.
    fn settle(&mut self) {
        if !self.redis.is_up {
            self.redis.up();
        }
        for _ in 0..10_000 {
            while !self.redis.to_subscriber.is_empty() {
                self.redis.run_subscriber();
            }
            while !self.redis.to_reader.is_empty() {
                self.redis.run_reader(0, false);
            }
            self.hear();
            self.answer();
            self.pass_time();
            self.carry_out();
        }
        assert!(self.redis.from_subscriber.is_empty() && self.redis.from_reader.is_empty(), "the router never rests");
    }

    fn check(&self, faults: Faults) {
        assert!(!self.is_degraded && !self.router.is_degraded(), "the outage is over");
        for member in &self.members {
            member.is_complete(&self.redis.log(&member.scope).published);
            assert!(faults == Faults::Losing || member.gaps.is_empty(), "nothing was lost, yet {:?}", member.gaps);
        }
    }
}

fn run(seed: u64, faults: Faults) -> World {
    let mut world = World::new(seed);
    world.redis.up();
    for _ in 0..STEPS_PER_SEED {
        world.step(faults);
    }
    world.settle();
    // A message that was dropped at the end is noticed with the next one.
    for scope in world.scopes.clone() {
        world.redis.publish(&scope, 1);
    }
    world.settle();
    world.check(faults);
    world
}

/// Names the seed when a run fails, so that it can be repeated alone.
fn run_all(faults: Faults) -> Vec<World> {
    let named = |seed| {
        let run = std::panic::AssertUnwindSafe(|| run(seed, faults));
        std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic)
        })
    };
    (1..=SEEDS).map(named).collect()
}

#[test]
fn what_redis_keeps_arrives_once_and_in_order_without_a_gap() {
    let worlds = run_all(Faults::Lossless);
    // The runs must have met what they are about.
    let sum = |count: fn(&World) -> u64| worlds.iter().map(count).sum::<u64>();
    assert!(sum(|w| w.router.counts().holes) > SEEDS, "dropped messages were noticed");
    assert!(sum(|w| w.router.counts().repaired) > SEEDS, "and repaired");
    assert!(sum(|w| w.router.counts().duplicates) > 0);
    assert!(sum(|w| w.router.counts().reads_failed) > 0);
    assert!(sum(|w| w.members.iter().filter(|m| m.told_degraded > 0).count() as u64) > SEEDS / 10);
    assert_eq!(sum(|w| w.router.counts().gaps), 0);
}

#[test]
fn what_redis_loses_is_told_by_a_gap() {
    let worlds = run_all(Faults::Losing);
    let sum = |count: fn(&World) -> u64| worlds.iter().map(count).sum::<u64>();
    assert!(sum(|w| w.router.counts().gaps) > SEEDS / 10, "gaps were told to whole scopes");
    assert!(sum(|w| w.members.iter().map(|m| m.gaps.len() as u64).sum()) > SEEDS, "and to joiners");
}
