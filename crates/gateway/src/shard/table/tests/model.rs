//! Two clients under a seed: they read and stop reading, subscribe and leave, in two scopes, while messages and gaps
//! come. What each sees of a scope must be in order, come once, and be complete or told to be missing.

use std::collections::{BTreeSet, VecDeque};

use message_router::Positions;

use super::*;

/// SplitMix64.
struct TestRandom(u64);

impl TestRandom {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

const TOPICS: [&str; 3] = ["a", "b", "b:c"];
const CHANNELS: [[&str; 4]; 2] = [
    ["collection:42:a", "collection:42:b", "collection:42:b:*", "collection:42:*"],
    ["collection:7:a", "collection:7:b", "collection:7:b:*", "collection:7:*"],
];

/// On its way to the shard, in order.
enum Item {
    Deliver(usize, u64),
    Joined(Joiner, CatchUpPage),
    Gap(usize, Gap),
}

/// One scope, as Redis and the router know it.
struct Stream {
    scope: Scope,
    /// Topics by offset, from 1.
    history: Vec<&'static str>,
    /// Offsets up to this one are not kept any more.
    expired: u64,
    /// How far the router has handed the scope on.
    top: u64,
}

/// A subscription as its client sees it.
struct HeldSubscription {
    scope: usize,
    channel: &'static str,
    filter: wire::Filter,
    /// Everything up to here has come, or was told to be missing.
    position: u64,
}

struct Client {
    slot: Slot,
    blocked: bool,
    held: Vec<HeldSubscription>,
    /// By scope: what has come since it resumed there, and the last of it.
    got: [BTreeSet<u64>; 2],
    newest: [u64; 2],
}

struct World {
    table: Table,
    random: TestRandom,
    streams: [Stream; 2],
    clients: Vec<Client>,
    inbox: VecDeque<Item>,
    questions: Vec<(Joiner, usize, Positions)>,
    /// What was seen, so that a run that proves nothing is noticed.
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    caught_up: u64,
    gaps: u64,
    /// Subscriptions of one frame, with positions of their own in one scope.
    resumed_together: u64,
    /// Subscriptions asked for while older ones of the same client and scope were behind.
    preceded: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut table = Table::new();
        let mut rules = Rules::clone(&table.shard.rules);
        rules.limits.outbox_bytes_max = 3_000;
        rules.limits.messages_per_second = 1_000_000;
        rules.limits.rate = RateLimit::new(1_000_000, 1_000_000);
        table.shard = Shard::new(ShardIndex(0), Arc::new(rules), Arc::default());
        let stream = |name: &str| {
            let scope = Families::default().parse_scope(&format!("default/{name}")).unwrap();
            Stream { scope, history: Vec::new(), expired: 0, top: 0 }
        };
        let streams = ["collection:42", "collection:7"].map(stream);
        let client = |user| Client {
            slot: table.connect(user),
            blocked: false,
            held: Vec::new(),
            got: Default::default(),
            newest: [0; 2],
        };
        let clients = ["alice", "bob"].map(client).into();
        let (inbox, questions, seen) = (VecDeque::new(), Vec::new(), Seen::default());
        Self { table, random: TestRandom(seed), streams, clients, inbox, questions, seen }
    }

    fn run(&mut self, items: u64) {
        for _ in 0..items {
            let (client, scope) = (self.random.index(2), self.random.index(2));
            match self.random.below(34) {
                0..15 => self.publish(scope),
                15..21 => self.read(client),
                21..24 => self.arrive(),
                24..27 => self.answer(),
                27 if self.random.below(2) == 0 => self.subscribe(client, scope),
                28 => self.unsubscribe(client),
                29 if self.random.below(10) == 0 => {
                    let stream = &mut self.streams[scope];
                    stream.expired += self.random.below(stream.top - stream.expired + 1);
                }
                30 if self.random.below(5) == 0 => self.lose(scope),
                31 if self.random.below(4) == 0 => self.tick(),
                32 if self.random.below(2) == 0 => {
                    let keep = self.random.index(2_000);
                    self.table.shard.evict_queued(self.clients[client].slot, keep);
                }
                _ => self.block(client),
            }
        }
        self.settle();
        for client in &self.clients {
            for held in &client.held {
                let missing = held.missing(&self.streams[held.scope], &client.got[held.scope], u64::MAX);
                assert_eq!(missing, Vec::<u64>::new(), "{} ends incomplete", held.channel);
            }
        }
        let shard = &self.table.shard;
        assert_eq!(shard.slow_clients.table().0, 0, "they are live again");
        assert_eq!(shard.subscriptions.tables()[1].0, 0, "nothing waits");
        self.seen.caught_up = shard.counters.slow_catch_ups.get();
        assert_eq!(shard.counters.slow_closes.get(), 0);
        assert_eq!(shard.counters.backlog.get(), 0);
    }

    /// Both read all, and everything that was asked is answered.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.arrive();
            self.answer();
            for client in 0..2 {
                self.flush(client, usize::MAX);
            }
            self.take_requests();
            if self.inbox.is_empty() && self.questions.is_empty() {
                return;
            }
        }
        panic!("it never ends");
    }

    fn publish(&mut self, scope: usize) {
        let topic = TOPICS[self.random.index(3)];
        let stream = &mut self.streams[scope];
        stream.history.push(topic);
        stream.top += 1;
        self.inbox.push_back(Item::Deliver(scope, stream.top));
        if self.random.below(3) > 0 {
            self.arrive();
        }
    }

    /// The router could not repair: it goes on behind a few that nobody is given, though history has them.
    fn lose(&mut self, scope: usize) {
        let stream = &mut self.streams[scope];
        let after = Some(at(stream.top));
        for _ in 0..=self.random.below(3) {
            stream.history.push(TOPICS[self.random.index(3)]);
            stream.top += 1;
        }
        let gap = Gap { after, upto: at(stream.top), reason: GapReason::Failover, certain: false };
        self.inbox.push_back(Item::Gap(scope, gap));
    }

    /// Everything that is on its way reaches the shard.
    fn arrive(&mut self) {
        while let Some(item) = self.inbox.pop_front() {
            match item {
                Item::Deliver(scope, offset) => {
                    let Stream { scope, history, .. } = &self.streams[scope];
                    let message = message(scope, history[offset as usize - 1], offset);
                    self.table.shard.deliver(scope, &[message]);
                }
                Item::Joined(joiner, joined) => self.table.shard.joined(joiner, joined),
                Item::Gap(scope, gap) => self.table.shard.gap(&self.streams[scope].scope, gap),
            }
        }
        self.take_requests();
        for client in 0..2 {
            if !self.clients[client].blocked && self.random.below(2) == 0 {
                self.flush(client, 1_000);
            }
        }
    }

    fn take_requests(&mut self) {
        for request in self.table.requests() {
            if let PumpRequest::Join { joiner, scope, after, .. } = request {
                let scope = self.streams.iter().position(|stream| stream.scope == scope).unwrap();
                self.questions.push((joiner, scope, after));
            }
        }
    }

    /// The router answers a question as it would: up to where the scope has been handed on.
    fn answer(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let at_random = self.random.index(self.questions.len());
        let (joiner, scope, after) = self.questions.swap_remove(at_random);
        let Stream { scope, history, expired, top } = &self.streams[scope];
        let resumed = after.iter().find(|position| position.offset >= *expired);
        let upto = match resumed {
            Some(Position { offset, .. }) => (offset + 1 + self.random.below(6)).min(*top),
            None => *top,
        };
        let mut lost: Vec<Gap> = after
            .iter()
            .take_while(|position| position.offset < *expired)
            .map(|position| {
                let upto = resumed.unwrap_or(at(*top));
                Gap { after: Some(position), upto, reason: GapReason::Expired, certain: true }
            })
            .collect();
        let start = match resumed {
            Some(_) => Start::Resumed,
            None if lost.is_empty() => Start::Fresh,
            None => Start::Gap(lost.remove(0)),
        };
        let behind = resumed.map_or(upto, |resumed| resumed.offset) + 1;
        let messages = (behind..=upto).map(|offset| message(scope, history[offset as usize - 1], offset)).collect();
        let joined = CatchUpPage { start, lost, messages, upto: Some(at(upto)), more: upto < *top };
        self.inbox.push_back(Item::Joined(joiner, joined));
    }

    fn subscribe(&mut self, client: usize, scope: usize) {
        let slot = self.clients[client].slot;
        let name = &self.streams[scope].scope;
        let subscriptions = &self.table.shard.connection(slot).unwrap().session.subscriptions;
        let is_first = subscriptions.iter().all(|s| s.pattern.scope != *name)
            && self.clients[client].held.iter().all(|held| held.scope != scope);
        if subscriptions.iter().any(|s| s.pattern.scope == *name && !s.live) {
            self.seen.preceded += 1;
        }
        // Into a scope that it holds already a client comes without a position, as the protocol asks; into another one
        // it may come with several subscriptions at once, each with its own.
        let mut channels = Vec::new();
        if is_first && self.random.below(2) == 0 {
            let top = self.streams[scope].top;
            for channel in CHANNELS[scope] {
                match self.random.below(4) {
                    0 => channels.push(format!(r#"{{"channel":"{channel}"}}"#)),
                    1 => {
                        let position = at(self.random.below(top + 1));
                        channels.push(format!(r#"{{"channel":"{channel}","position":"{position}"}}"#));
                    }
                    _ => {}
                }
            }
            self.seen.resumed_together += u64::from(channels.len() > 1);
            self.clients[client].got[scope].clear();
            self.clients[client].newest[scope] = 0;
        } else {
            let channel = CHANNELS[scope][self.random.index(4)];
            channels.push(format!(r#"{{"channel":"{channel}"}}"#));
        }
        let hello = format!(r#"{{"type":"hello","payload":{{"channels":[{}]}}}}"#, channels.join(","));
        self.table.client_sends(slot, &hello);
        self.take_requests();
    }

    fn unsubscribe(&mut self, client: usize) {
        let Client { slot, held, .. } = &self.clients[client];
        if self.random.below(3) > 0 || held.is_empty() {
            return;
        }
        let channel = held[self.random.index(held.len())].channel;
        self.table.client_sends(*slot, &format!(r#"{{"type":"unsubscribe","channel":"{channel}"}}"#));
        self.take_requests();
    }

    fn tick(&mut self) {
        self.table.now.mono_ms += 5_000;
        for client in &self.clients {
            self.table.shard.peer_alive(client.slot);
            self.table.shard.wake(client.slot, self.table.now);
        }
    }

    fn block(&mut self, client: usize) {
        let client = &mut self.clients[client];
        if !std::mem::replace(&mut client.blocked, true) {
            self.table.shard.block(client.slot, self.table.now);
        }
    }

    fn read(&mut self, client: usize) {
        let frames = 1 + self.random.index(12);
        self.flush(client, frames);
    }

    /// The client reads this many frames; the socket is full again if more wait.
    fn flush(&mut self, client: usize, frames: usize) {
        let slot = self.clients[client].slot;
        self.table.shard.unblock(slot);
        self.clients[client].blocked = false;
        for _ in 0..frames {
            let outbox = &mut self.table.shard.connection(slot).unwrap().outbox;
            if outbox.is_empty() {
                break;
            }
            let bytes = outbox.take_entry();
            self.see(client, &bytes);
        }
        if self.table.shard.connection(slot).unwrap().outbox.is_empty() {
            self.table.shard.resume_replays(slot);
            self.take_requests();
        } else {
            self.block(client);
        }
    }

    /// What the protocol promises of each frame.
    fn see(&mut self, client: usize, bytes: &[u8]) {
        if bytes[0] & 0x0F != 1 {
            return;
        }
        let start = if bytes[1] == 126 { 4 } else { 2 };
        let frame: Value = serde_json::from_slice(&bytes[start..]).unwrap();
        let offset =
            |value: &Value| -> u64 { value.as_str().map_or(0, |t| t.split_once('-').unwrap().1.parse().unwrap()) };
        let channel = frame["channel"].as_str().unwrap_or_default().to_owned();
        let scope = usize::from(channel.starts_with("collection:7"));
        let Client { held, got, newest, .. } = &mut self.clients[client];
        match frame["type"].as_str().unwrap() {
            "subscribed" => {
                let channel = CHANNELS[scope].into_iter().find(|known| *known == channel).unwrap();
                let filter = Families::default().parse(&TenantId::default(), channel).unwrap().filter;
                held.push(HeldSubscription { scope, channel, filter, position: offset(&frame["position"]) });
            }
            "unsubscribed" => held.retain(|held| held.channel != channel),
            "m" => {
                let offset = offset(&frame["position"]);
                assert!(got[scope].insert(offset), "{offset} comes twice");
                assert!(offset > newest[scope], "{offset} comes behind {}", newest[scope]);
                newest[scope] = offset;
                let topic = self.streams[scope].history[offset as usize - 1];
                let wants = |held: &HeldSubscription| {
                    held.scope == scope && held.position < offset && held.filter.matches(topic)
                };
                let wanting: Vec<usize> = (0..held.len()).filter(|n| wants(&held[*n])).collect();
                assert!(!wanting.is_empty(), "{offset} is for nobody");
                wanting.into_iter().for_each(|n| self.reach(client, n, offset));
            }
            "position" | "gap" => {
                let n = held.iter().position(|held| held.channel == channel).unwrap();
                if frame["type"] == "position" {
                    return self.reach(client, n, offset(&frame["position"]));
                }
                self.seen.gaps += 1;
                let after = offset(&frame["payload"]["after"]).max(held[n].position);
                self.reach(client, n, after);
                let held = &mut self.clients[client].held[n];
                held.position = held.position.max(offset(&frame["payload"]["upto"]));
            }
            "welcome" | "error" => {}
            other => panic!("unexpected {other}"),
        }
    }

    /// A subscription has come to `offset`: whatever passes its filter has come before.
    fn reach(&mut self, client: usize, n: usize, offset: u64) {
        let Client { held, got, .. } = &mut self.clients[client];
        let held = &mut held[n];
        let missing = held.missing(&self.streams[held.scope], &got[held.scope], offset);
        assert!(missing.is_empty(), "{} came to {offset} without {missing:?}", held.channel);
        held.position = offset;
    }
}

impl HeldSubscription {
    /// What passes its filter, lies behind its position and at or before `upto`, and has not come.
    fn missing(&self, stream: &Stream, got: &BTreeSet<u64>, upto: u64) -> Vec<u64> {
        let is_wanted = |offset: &u64| self.filter.matches(stream.history[*offset as usize - 1]);
        (self.position + 1..=upto.min(stream.top)).filter(|offset| is_wanted(offset) && !got.contains(offset)).collect()
    }
}

#[test]
fn under_any_seed_slow_clients_see_everything_in_order_or_are_told() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(900)));
        if let Err(panic) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
        seen.caught_up += world.seen.caught_up;
        seen.gaps += world.seen.gaps;
        seen.resumed_together += world.seen.resumed_together;
        seen.preceded += world.seen.preceded;
    }
    let Seen { caught_up, gaps, resumed_together, preceded } = seen;
    assert!(caught_up > 200 && gaps > 100, "{caught_up} caught up, {gaps} gaps");
    assert!(resumed_together > 200 && preceded > 200, "{resumed_together} together, {preceded} preceded");
}
