//! A random sequence of actions of publishers, gateways and operators on two servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis_model::{Call, Draft, FunctionReply, Loses, NodeIndex, Refusal, Role};
use test_support::Random;
use wire::{Envelope, Position, Timestamp};

use crate::pair::{Pair, SCOPES};

/// Counts of what the traces have covered.
#[derive(Default)]
pub(crate) struct Met {
    pub(crate) stored: u64,
    /// Messages that were not stored, because their id was known.
    pub(crate) known: u64,
    /// Entries that were read.
    pub(crate) entries: u64,
    pub(crate) refused: u64,
    pub(crate) received: u64,
    /// Earlier generations in the answers of reads.
    pub(crate) generations: u64,
    /// Generations that were marked as having lost messages, and marks in the answers of reads.
    pub(crate) marked: u64,
    pub(crate) torn: u64,
    pub(crate) promoted: u64,
    pub(crate) copied: u64,
    pub(crate) restarted: u64,
    /// Answers that begin later than requested, because of trimming or erasure.
    pub(crate) trimmed: u64,
    /// The same for the family that is trimmed exactly.
    pub(crate) trimmed_exactly: u64,
    /// The same for the family whose messages expire within the trace.
    pub(crate) expired: u64,
}

struct Trace<'m> {
    random: Random,
    pair: Pair,
    /// Positions seen, by scope.
    seen: BTreeMap<&'static str, Vec<Position>>,
    messages: u64,
    met: &'m mut Met,
}

pub(crate) fn run(seed: u64, steps: usize, met: &mut Met) {
    let mut trace = Trace { random: Random::new(seed), pair: Pair::start(), seen: BTreeMap::new(), messages: 0, met };
    for at in [0, 1] {
        SCOPES.iter().for_each(|scope| trace.pair.subscribe(at, scope, true));
    }
    for _ in 0..steps {
        trace.step();
    }
    trace.met.received += trace.pair.received;
}

impl Trace<'_> {
    fn step(&mut self) {
        let at = self.random.below(2);
        let scope = SCOPES[self.random.below(SCOPES.len())];
        let is_primary = self.pair.role(at) == Role::Primary;
        match self.random.below(100) {
            0..40 => self.publish(at, scope),
            40..58 => self.read(at, scope),
            58..61 => self.open(at, scope),
            61..69 => self.lose(at, scope),
            69 => drop(self.call(at, scope, &Call::Probe)),
            70..73 => {
                let is_wanted = self.random.below(3) > 0;
                self.pair.subscribe(at, scope, is_wanted);
            }
            73..75 => self.publish_bare(at, scope),
            75..77 if is_primary => self.pair.erase(at, scope, "meta"),
            77..79 if is_primary => self.pair.erase(at, scope, "stream"),
            79 if is_primary => {
                self.pair.change(at, &["FLUSHALL"], |model, out| model.erase_all(NodeIndex(at), out));
            }
            80..82 if is_primary => self.pair.reload(at),
            82..84 => self.fill(at),
            84..86 => self.pair.save(at),
            86..88 => self.restart(at),
            88..93 => self.change_roles(at),
            _ => std::thread::sleep(std::time::Duration::from_millis(2 + self.random.below(25))),
        }
    }

    fn call(&mut self, at: usize, scope: &'static str, call: &Call) -> Option<FunctionReply> {
        let answer = self.pair.call(at, scope, call);
        self.met.refused += u64::from(answer.is_err());
        answer.ok()
    }

    fn publish(&mut self, at: usize, scope: &'static str) {
        // A received message shows when it was stored.
        self.pair.subscribe(at, scope, true);
        // Many messages where many are kept, so that those scopes are trimmed too.
        let most = match scope {
            "acme/user:1" | "acme/user:2" => 64,
            "acme/room:1" => 12,
            _ => 6,
        };
        let count = 1 + self.random.below(most);
        let once = self.random.below(2) == 0;
        let drafts: Vec<Draft> = (0..count).map(|_| self.draft()).collect();
        let call = if once { Call::PublishOnce(drafts) } else { Call::Publish(drafts) };
        let positions = match self.call(at, scope, &call) {
            Some(FunctionReply::Stored(last)) => vec![(last, false)],
            Some(FunctionReply::StoredOnce(positions)) => positions,
            _ => return,
        };
        self.met.stored += count;
        self.met.known += positions.iter().filter(|(_, known)| *known).count() as u64;
        self.seen.entry(scope).or_default().extend(positions.iter().map(|(position, _)| position));
    }

    /// A new message without an id, with a new id, or with an id that may have been used before.
    fn draft(&mut self) -> Draft {
        self.messages += 1;
        let id = match self.random.below(3) {
            0 => None,
            1 => Some(self.messages),
            _ => Some(self.messages.saturating_sub(1 + self.random.below(40))),
        };
        let message = Bytes::from(format!(r#"{{"type":"t","payload":{}}}"#, self.messages));
        Draft { topic: "ops".into(), message, id: id.map(|id| format!("id-{id}").into()) }
    }

    fn position(&mut self, scope: &'static str) -> Option<Position> {
        let seen = self.seen.get(scope)?;
        let Position { generation, offset } = seen[self.random.below(seen.len())];
        match self.random.below(8) {
            0 => None,
            1 => Some(Position::new(generation, 0)),
            2 => Some(Position::new(generation, offset + self.random.below(4))),
            3 => Some(Position::new(generation + 1, self.random.below(4))),
            4 => Some(Position::default()),
            _ => Some(Position::new(generation, offset.saturating_sub(self.random.below(8)))),
        }
    }

    fn read(&mut self, at: usize, scope: &'static str) {
        let (after, entries_max) = (self.position(scope), self.random.below(12));
        let Some(FunctionReply::Page(page)) = self.call(at, scope, &Call::Read { after, entries_max }) else { return };
        self.met.generations += page.earlier.len() as u64;
        self.met.torn += page.torn.len() as u64;
        self.met.entries += page.entries.len() as u64;
        let first = page.entries.first().map_or(page.top.next(), |entry| entry.position);
        let is_short = after.is_some_and(|after| first.generation == after.generation && first > after.next());
        match scope {
            "acme/brief:1" => self.met.expired += u64::from(is_short),
            "acme/room:1" => self.met.trimmed_exactly += u64::from(is_short),
            _ => self.met.trimmed += u64::from(is_short),
        }
    }

    fn open(&mut self, at: usize, scope: &'static str) {
        let (after, entries_max) = (self.position(scope), self.random.below(12));
        if let Some(FunctionReply::Page(page)) = self.call(at, scope, &Call::Open { after, entries_max }) {
            self.seen.entry(scope).or_default().push(page.top);
        }
    }

    fn lose(&mut self, at: usize, scope: &'static str) {
        let newest = self.seen.get(scope).and_then(|seen| seen.last().copied());
        let known = if self.random.below(2) == 0 { newest } else { self.position(scope) };
        let Some(Position { generation, offset }) = known else { return };
        let position = Position::new(generation, offset + self.random.below(4));
        let marked = self.call(at, scope, &Call::Lost(position));
        self.met.marked += u64::from(marked == Some(FunctionReply::Marked(true)));
    }

    /// A publish by a client that does not use the library.
    fn publish_bare(&mut self, at: usize, scope: &'static str) {
        let payload = Envelope::write(Position::new(1, 1), Timestamp(0), [("", &b"{}"[..])].into_iter());
        let text = String::from_utf8(payload.clone()).expect("it is text");
        let channel = format!("tidegate:{{{scope}}}");
        self.pair.change(at, &["PUBLISH", &channel, &text], |model, out| {
            model.publish_bare(NodeIndex(at), scope, Bytes::from(payload), out);
        });
    }

    /// Sets the memory limit to almost nothing for a few calls.
    fn fill(&mut self, at: usize) {
        let set = |pair: &mut Pair, is_full: bool| {
            pair.real[at].exec(&["CONFIG", "SET", "maxmemory", if is_full { "1" } else { "0" }]);
            pair.model.node_mut(NodeIndex(at)).is_full = is_full;
        };
        set(&mut self.pair, true);
        for scope in SCOPES {
            let draft = self.draft();
            let answer = self.pair.call(at, scope, &Call::Publish(vec![draft]));
            assert!(matches!(answer, Err(Refusal::OutOfMemory | Refusal::ReadOnly)));
            self.open(at, scope);
            self.read(at, scope);
        }
        self.call(at, SCOPES[0], &Call::Probe);
        set(&mut self.pair, false);
    }

    fn restart(&mut self, at: usize) {
        // A replica that is killed returns as it was, which is the same as following again.
        if self.pair.role(at) == Role::Replica {
            return;
        }
        let loses = [Loses::Nothing, Loses::SinceSnapshot, Loses::Everything][self.random.below(3)];
        self.pair.restart(at, loses);
        SCOPES.iter().for_each(|scope| self.pair.subscribe(at, scope, true));
        self.met.restarted += 1;
    }

    fn change_roles(&mut self, at: usize) {
        match (self.pair.role(at), self.pair.role(1 - at)) {
            (Role::Replica, _) => {
                self.pair.promote(at);
                self.met.promoted += 1;
            }
            (Role::Primary, Role::Primary) => {
                self.pair.follow(at);
                self.met.copied += 1;
            }
            (Role::Primary, Role::Replica) => {}
        }
    }
}
