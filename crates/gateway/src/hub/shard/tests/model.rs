//! One client under a seed: it reads and stops reading, subscribes and leaves, while messages and gaps come. What it
//! sees of each subscription must be in order, come once, and be complete or told to be missing.

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

const TOPICS: [&str; 3] = ["a", "b", "b:c"];
const CHANNELS: [&str; 4] = ["collection:42:a", "collection:42:b", "collection:42:b:*", "collection:42:*"];

/// On its way to the shard, in order.
enum Item {
    Deliver(u64),
    Joined(Joiner, Joined),
    Gap(Gap),
}

/// A subscription as its client sees it.
struct Held {
    channel: &'static str,
    /// Everything up to here has come, or was told to be missing.
    position: u64,
}

struct World {
    table: Table,
    slot: Slot,
    scope: Scope,
    dice: Dice,
    /// Topics by offset, from 1.
    history: Vec<&'static str>,
    /// Offsets up to this one are not kept any more.
    expired: u64,
    /// How far the router has handed the scope on.
    top: u64,
    inbox: VecDeque<Item>,
    questions: Vec<(Joiner, Option<Position>)>,
    blocked: bool,
    held: Vec<Held>,
    got: BTreeSet<u64>,
    /// What was seen, so that a run that proves nothing is noticed.
    caught_up: u64,
    gaps: u64,
}

fn matches(channel: &str, topic: &str) -> bool {
    let families = Families::default();
    families.parse(&TenantId::default(), channel).unwrap().filter.matches(topic)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut table = Table::new();
        let mut rules = Rules::clone(&table.shard.rules);
        rules.limits.outbox_bytes_max = 3_000;
        rules.limits.messages_per_second = 1_000_000;
        rules.limits.rate = RateLimit::new(1_000_000, 1_000_000);
        table.shard = Shard::new(ShardIndex(0), Arc::new(rules), Arc::default());
        let slot = table.connect("alice");
        let scope = Families::default().parse_scope("default/collection:42").unwrap();
        let (inbox, questions, held, got) = (VecDeque::new(), Vec::new(), Vec::new(), BTreeSet::new());
        let (history, dice) = (Vec::new(), Dice(seed));
        let (expired, top, caught_up, gaps, blocked) = (0, 0, 0, 0, false);
        Self { table, slot, scope, dice, history, expired, top, inbox, questions, blocked, held, got, caught_up, gaps }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.dice.below(34) {
                0..18 => self.publish(),
                18..21 => self.read(),
                21..24 => self.arrive(),
                24..27 => self.answer(),
                27 if self.dice.below(2) == 0 => self.subscribe(),
                28 => self.unsubscribe(),
                29 if self.dice.below(20) == 0 => self.expired += self.dice.below(self.top - self.expired + 1),
                30 if self.dice.below(20) == 0 => self.lose(),
                31 if self.dice.below(4) == 0 => self.tick(),
                32 if self.dice.below(2) == 0 => {
                    let keep = self.dice.below(2_000) as usize;
                    self.table.shard.slim(self.slot, keep);
                }
                _ => self.block(),
            }
        }
        // It reads all, and everything that was asked is answered.
        for _ in 0..1_000 {
            self.arrive();
            self.answer();
            self.flush(usize::MAX);
            self.take_requests();
        }
        for held in &self.held {
            let pattern = held.channel;
            let owed = (held.position + 1..=self.top)
                .filter(|offset| matches(pattern, self.history[*offset as usize - 1]) && !self.got.contains(offset));
            assert_eq!(owed.collect::<Vec<_>>(), Vec::<u64>::new(), "{pattern} ends incomplete");
        }
        let shard = &self.table.shard;
        assert_eq!(shard.behind.len(), 0, "it is live again");
        self.caught_up = shard.counters.slow_catch_ups.get();
        assert_eq!(shard.counters.slow_closes.get(), 0);
        assert_eq!(shard.counters.backlog.get(), 0);
    }

    fn publish(&mut self) {
        let topic = TOPICS[self.dice.below(3) as usize];
        self.history.push(topic);
        self.top += 1;
        self.inbox.push_back(Item::Deliver(self.top));
        if self.dice.below(3) > 0 {
            self.arrive();
        }
    }

    /// The router could not repair: it goes on behind a few that nobody is given, though history has them.
    fn lose(&mut self) {
        let after = Some(at(self.top));
        for _ in 0..=self.dice.below(3) {
            self.history.push(TOPICS[self.dice.below(3) as usize]);
            self.top += 1;
        }
        let gap = Gap { after, upto: at(self.top), reason: GapReason::Failover, certain: false };
        self.inbox.push_back(Item::Gap(gap));
    }

    /// Everything that is on its way reaches the shard.
    fn arrive(&mut self) {
        while let Some(item) = self.inbox.pop_front() {
            match item {
                Item::Deliver(offset) => {
                    let topic = self.history[offset as usize - 1];
                    self.table.shard.deliver(&self.scope, &[message(&self.scope, topic, offset)]);
                }
                Item::Joined(joiner, joined) => self.table.shard.joined(joiner, joined),
                Item::Gap(gap) => self.table.shard.gap(&self.scope, gap),
            }
        }
        self.take_requests();
        if !self.blocked && self.dice.below(2) == 0 {
            self.flush(1_000);
        }
    }

    fn take_requests(&mut self) {
        for request in self.table.requests() {
            if let FromShard::Join { joiner, after, .. } = request {
                self.questions.push((joiner, after.lowest()));
            }
        }
    }

    /// The router answers a question as it would: up to where the scope has been handed on.
    fn answer(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let at_random = self.dice.below(self.questions.len() as u64) as usize;
        let (joiner, after) = self.questions.swap_remove(at_random);
        let joined = match after {
            None => page(Start::Fresh, vec![], Some(self.top), false),
            Some(after) if after.offset < self.expired => {
                let gap = Gap { after: Some(after), upto: at(self.top), reason: GapReason::Expired, certain: true };
                page(Start::Gap(gap), vec![], Some(self.top), false)
            }
            Some(after) => {
                let upto = self.top.min(after.offset + 1 + self.dice.below(6)).max(after.offset);
                let entries = (after.offset + 1..=upto).map(|o| (self.history[o as usize - 1], o)).collect();
                page(Start::Resumed, entries, Some(upto), upto < self.top)
            }
        };
        self.inbox.push_back(Item::Joined(joiner, joined));
    }

    fn subscribe(&mut self) {
        let channel = CHANNELS[self.dice.below(4) as usize];
        // Into a scope that it holds already a client comes without a position, as the protocol asks.
        let is_first = self.table.shard.connection(self.slot).unwrap().session.subscriptions.is_empty();
        let position = match is_first && self.held.is_empty() && self.dice.below(2) == 0 {
            true => format!(r#","position":"{}""#, at(self.dice.below(self.top + 1))),
            false => String::new(),
        };
        if !position.is_empty() {
            self.got.clear();
        }
        self.table.says(self.slot, &format!(r#"{{"type":"subscribe","channel":"{channel}"{position}}}"#));
        self.take_requests();
    }

    fn unsubscribe(&mut self) {
        if self.dice.below(3) > 0 || self.held.is_empty() {
            return;
        }
        let channel = self.held[self.dice.below(self.held.len() as u64) as usize].channel;
        self.table.says(self.slot, &format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#));
        self.take_requests();
    }

    fn tick(&mut self) {
        self.table.now.mono_ms += 5_000;
        self.table.shard.heard(self.slot);
        self.table.shard.wake(self.slot, self.table.now);
    }

    fn block(&mut self) {
        if !std::mem::replace(&mut self.blocked, true) {
            self.table.shard.block(self.slot, self.table.now);
        }
    }

    fn read(&mut self) {
        let frames = 1 + self.dice.below(12) as usize;
        self.flush(frames);
    }

    /// The client reads this many frames; the socket is full again if more wait.
    fn flush(&mut self, frames: usize) {
        self.table.shard.unblock(self.slot);
        self.blocked = false;
        let mut scratch = Vec::new();
        for _ in 0..frames {
            let outbox = &mut self.table.shard.connection(self.slot).unwrap().outbox;
            let bytes = outbox.next_write(&mut scratch).to_vec();
            if bytes.is_empty() {
                break;
            }
            outbox.advance(bytes.len());
            self.see(&bytes);
        }
        if self.table.shard.connection(self.slot).unwrap().outbox.is_empty() {
            self.table.shard.resume_replays(self.slot);
            self.take_requests();
        } else {
            self.block();
        }
    }

    /// What the protocol promises of each frame.
    fn see(&mut self, bytes: &[u8]) {
        if bytes[0] & 0x0F != 1 {
            return;
        }
        let start = if bytes[1] == 126 { 4 } else { 2 };
        let frame: Value = serde_json::from_slice(&bytes[start..]).unwrap();
        let offset =
            |value: &Value| -> u64 { value.as_str().map_or(0, |t| t.split_once('-').unwrap().1.parse().unwrap()) };
        let channel = frame["channel"].as_str().unwrap_or_default().to_owned();
        match frame["type"].as_str().unwrap() {
            "subscribed" => {
                let channel = CHANNELS.into_iter().find(|known| *known == channel).unwrap();
                self.held.push(Held { channel, position: offset(&frame["position"]) });
            }
            "unsubscribed" => self.held.retain(|held| held.channel != channel),
            "m" => {
                let offset = offset(&frame["position"]);
                assert!(self.got.insert(offset), "{offset} comes twice");
                let topic = self.history[offset as usize - 1];
                for n in 0..self.held.len() {
                    if matches(self.held[n].channel, topic) {
                        assert!(offset > self.held[n].position, "{offset} comes late to {}", self.held[n].channel);
                        self.reach(n, offset);
                    }
                }
            }
            "position" | "gap" => {
                let n = self.held.iter().position(|held| held.channel == channel).unwrap();
                if frame["type"] == "position" {
                    return self.reach(n, offset(&frame["position"]));
                }
                self.gaps += 1;
                let after = offset(&frame["payload"]["after"]);
                self.reach(n, after.max(self.held[n].position));
                self.held[n].position = self.held[n].position.max(offset(&frame["payload"]["upto"]));
            }
            "welcome" | "error" => {}
            other => panic!("unexpected {other}"),
        }
    }

    /// A subscription has come to `offset`: whatever passes its filter has come before.
    fn reach(&mut self, n: usize, offset: u64) {
        let held = &mut self.held[n];
        let missing: Vec<u64> = (held.position + 1..=offset)
            .filter(|o| matches(held.channel, self.history[*o as usize - 1]) && !self.got.contains(o))
            .collect();
        assert!(missing.is_empty(), "{} came to {offset} without {missing:?}", held.channel);
        held.position = offset;
    }
}

#[test]
fn under_any_seed_a_slow_client_sees_everything_in_order_or_is_told() {
    let (mut caught_up, mut gaps) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(900)));
        if let Err(panic) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
        caught_up += world.caught_up;
        gaps += world.gaps;
    }
    assert!(caught_up > 200 && gaps > 100, "{caught_up} caught up, {gaps} gaps");
}
