//! PURE. The messages that each scope keeps: limited in number and age per family, and in bytes over all scopes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hashbrown::HashMap;
use keyspace::ID_WINDOW_MS;
use wire::{FamilyIndex, Position, Scope, Timestamp};

use super::ids::Ids;
use crate::broker::{Draft, Entry, History};
use crate::route::Policies;

/// A page ends after this many bytes of messages, even if more entries were requested.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The histories of all scopes.
///
/// A scope is forgotten if nobody subscribed to it, published to it or read it for the TTL of its family. When it is
/// used again it begins with a new generation, so that no position is given out twice.
#[derive(Debug)]
pub(super) struct MemoryHistory {
    policies: Policies,
    /// Generation of scopes that are used for the first time.
    generation: u64,
    logs: HashMap<Scope, Log>,
    /// Per family: the scopes in the order of their last use. Within one family every scope has the same TTL.
    used: Vec<BTreeMap<u64, Scope>>,
    /// The scopes that keep messages, in the order of their last publish.
    published: BTreeMap<u64, Scope>,
    /// Number of the newest use; it orders `used` and `published`.
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Log {
    top: Position,
    entries: VecDeque<Entry>,
    /// Number of subscribers. The scope is not forgotten while there is one.
    pins: usize,
    used_ms: u64,
    ids: Ids,
    /// Key of this scope in `MemoryHistory::used`.
    used: u64,
    /// Key of this scope in `MemoryHistory::published`.
    published: u64,
}

impl MemoryHistory {
    pub(super) fn new(policies: Policies, generation: u64, bytes_max: usize) -> Self {
        let used = policies.families().iter().map(|_| BTreeMap::new()).collect();
        let (logs, published) = (HashMap::new(), BTreeMap::new());
        Self { policies, generation, logs, used, published, uses: 0, bytes: 0, bytes_max }
    }

    /// Keeps a scope from being forgotten, until [`Self::unpin`] has been called as often as this.
    pub(super) fn pin(&mut self, scope: &Scope, now_ms: u64) {
        self.touch(scope, now_ms).pins += 1;
    }

    pub(super) fn unpin(&mut self, scope: &Scope) {
        let log = self.logs.get_mut(scope).expect("a pinned scope is not forgotten");
        log.pins -= 1;
    }

    /// Position of the next message of `scope`.
    pub(super) fn next_position(&mut self, scope: &Scope, now_ms: u64) -> Position {
        self.touch(scope, now_ms).top.next()
    }

    /// Position of the message with this id, if the id is known.
    pub(super) fn known(&mut self, scope: &Scope, id: &str, now_ms: u64) -> Option<Position> {
        self.touch(scope, now_ms).ids.find(id, now_ms)
    }

    /// Remembers an id as long as Redis does. The number of ids is limited only by that time and by the rate of
    /// publishing.
    pub(super) fn keep_id(&mut self, scope: &Scope, id: Box<str>, position: Position, now_ms: u64) {
        self.touch(scope, now_ms).ids.insert(id, position, now_ms);
    }

    /// Stores messages at consecutive positions and returns the last position.
    pub(super) fn store(&mut self, scope: &Scope, messages: Vec<Draft>, now_ms: u64) -> Position {
        let entries_max = self.policies.policy(scope.family()).history_entries_max as usize;
        self.expire(scope, now_ms);
        self.uses += 1;
        let uses = self.uses;
        let log = self.touch(scope, now_ms);
        let mut bytes_added = 0;
        for Draft { topic, message, .. } in messages {
            log.top = log.top.next();
            let entry = Entry { position: log.top, time: Timestamp(now_ms), topic, message: Bytes::from(message) };
            bytes_added += kept_bytes(&entry);
            log.entries.push_back(entry);
        }
        let surplus = log.entries.len().saturating_sub(entries_max);
        let bytes_trimmed: usize = log.entries.drain(..surplus).map(|entry| kept_bytes(&entry)).sum();
        let last = log.top;
        let before = std::mem::replace(&mut log.published, uses);
        self.published.remove(&before);
        self.published.insert(uses, scope.clone());
        self.bytes = self.bytes + bytes_added - bytes_trimmed;
        self.evict();
        last
    }

    /// Returns the kept messages of the scope above `after`.
    pub(super) fn read(&mut self, scope: &Scope, after: Option<Position>, entries_max: usize, now_ms: u64) -> History {
        self.expire(scope, now_ms);
        let log = self.touch(scope, now_ms);
        let start = after.map_or(log.entries.len(), |after| log.entries.partition_point(|e| e.position <= after));
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in log.entries.range(start..).take(entries_max) {
            bytes += kept_bytes(entry);
            if bytes > PAGE_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        let more = start + entries.len() < log.entries.len();
        History { top: log.top, earlier: Vec::new(), torn: Vec::new(), entries, more }
    }

    /// The newest position of the scope, if it has begun. This call does not count as a use.
    pub(super) fn top(&self, scope: &Scope) -> Option<Position> {
        self.logs.get(scope).map(|log| log.top)
    }

    /// Marks a scope as used now, and forgets scopes that have not been used for their TTL.
    fn touch(&mut self, scope: &Scope, now_ms: u64) -> &mut Log {
        self.forget_unused(now_ms);
        self.uses += 1;
        let (used, generation) = (self.uses, self.generation);
        let order = &mut self.used[scope.family().0 as usize];
        let log = self.logs.entry(scope.clone()).or_insert_with(|| Log {
            top: Position::new(generation, 0),
            entries: VecDeque::new(),
            pins: 0,
            used_ms: now_ms,
            ids: Ids::default(),
            used,
            published: 0,
        });
        order.remove(&log.used);
        order.insert(used, scope.clone());
        log.used = used;
        log.used_ms = now_ms;
        log
    }

    fn forget_unused(&mut self, now_ms: u64) {
        for (index, order) in (0u8..).zip(&mut self.used) {
            // The ids of a scope are not forgotten before their time either.
            let ttl_ms = self.policies.policy(FamilyIndex(index)).ttl_ms.max(2 * ID_WINDOW_MS);
            while let Some(first) = order.first_entry() {
                let scope = first.get().clone();
                let log = self.logs.get_mut(&scope).expect("every place in the order belongs to a scope");
                if log.used_ms + ttl_ms > now_ms {
                    break;
                }
                first.remove();
                if log.pins > 0 {
                    self.uses += 1;
                    (log.used, log.used_ms) = (self.uses, now_ms);
                    order.insert(self.uses, scope);
                    continue;
                }
                self.bytes -= log.entries.iter().map(kept_bytes).sum::<usize>();
                self.published.remove(&log.published);
                self.generation = self.generation.max(log.top.generation + 1);
                self.logs.remove(&scope);
            }
        }
    }

    /// Drops messages that are older than the TTL of the family.
    fn expire(&mut self, scope: &Scope, now_ms: u64) {
        let Some(log) = self.logs.get_mut(scope) else { return };
        let ttl_ms = self.policies.policy(scope.family()).ttl_ms;
        let expired = log.entries.partition_point(|entry| entry.time.0 + ttl_ms <= now_ms);
        self.bytes -= log.entries.drain(..expired).map(|entry| kept_bytes(&entry)).sum::<usize>();
    }

    /// Drops messages until the limit is kept: the scope with the oldest last publish loses its oldest messages first.
    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(first) = self.published.first_entry() else { return };
            let log = self.logs.get_mut(first.get()).expect("every place in the order belongs to a scope");
            match log.entries.pop_front() {
                Some(entry) => self.bytes -= kept_bytes(&entry),
                None => {
                    first.remove();
                }
            }
        }
    }
}

fn kept_bytes(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.topic.len() + entry.message.len()
}

#[cfg(test)]
mod tests {
    use wire::TenantId;

    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn scope(name: &str) -> Scope {
        Policies::default().families().parse(&TenantId::default(), name).unwrap().scope
    }

    fn publish(history: &mut MemoryHistory, name: &str, message_bytes: usize, now_ms: u64) -> Position {
        history.store(&scope(name), vec![Draft::new("", vec![b'x'; message_bytes])], now_ms)
    }

    fn offsets(history: &mut MemoryHistory, name: &str, now_ms: u64) -> Vec<u64> {
        let begin = Position::default();
        history.read(&scope(name), Some(begin), 100, now_ms).entries.iter().map(|e| e.position.offset).collect()
    }

    #[test]
    fn the_scope_published_to_longest_ago_makes_room() {
        let mut history = MemoryHistory::new(Policies::default(), 7, 4_500);
        for name in ["user:old", "user:old", "user:busy", "user:new", "user:busy"] {
            publish(&mut history, name, 1_000, 0);
        }
        assert_eq!(offsets(&mut history, "user:old", 0), [2], "five messages of 1,000 bytes do not fit");
        publish(&mut history, "user:new", 1_000, 0);
        publish(&mut history, "user:new", 1_000, 0);
        assert!(offsets(&mut history, "user:old", 0).is_empty());
        assert_eq!(offsets(&mut history, "user:busy", 0), [2]);
        assert_eq!(offsets(&mut history, "user:new", 0), [1, 2, 3]);
        assert!(history.bytes <= 4_500);
    }

    #[test]
    fn a_scope_unused_for_its_ttl_is_forgotten_and_never_repeats_a_position() {
        let mut history = MemoryHistory::new(Policies::default(), 7, 1_000_000);
        let last = publish(&mut history, "system", 1, 0);
        publish(&mut history, "user:a", 1, 0);
        history.pin(&scope("collection:pinned"), 0);
        publish(&mut history, "collection:pinned", 1, 0);
        history.read(&scope("user:a"), None, 1, 5 * MINUTE_MS);
        assert_eq!(history.logs.len(), 2, "a system scope is forgotten after five minutes");
        history.read(&scope("user:a"), None, 1, 61 * MINUTE_MS);
        assert_eq!(history.logs.len(), 2, "a collection scope after an hour, but not with a subscriber");
        let again = publish(&mut history, "system", 1, 62 * MINUTE_MS);
        assert!(again > last && again.generation > last.generation, "{again} follows {last}");
        history.unpin(&scope("collection:pinned"));
        history.read(&scope("system"), None, 1, 10_000 * MINUTE_MS);
        assert_eq!((history.logs.len(), history.bytes, history.published.len()), (1, 0, 0));
    }

    #[test]
    fn a_page_is_bounded_in_bytes() {
        let mut history = MemoryHistory::new(Policies::default(), 7, 16 * PAGE_BYTES_MAX);
        for _ in 0..3 {
            publish(&mut history, "user:a", PAGE_BYTES_MAX / 2, 0);
        }
        publish(&mut history, "user:a", PAGE_BYTES_MAX * 2, 0);
        let pages = [0, 1, 2, 3].map(|offset| {
            let page = history.read(&scope("user:a"), Some(Position::new(7, offset)), 100, 0);
            (page.entries.len(), page.more)
        });
        assert_eq!(pages, [(1, true), (1, true), (1, true), (1, false)]);
    }
}
