//! PURE. The connections of one shard that want topics of one scope.

use smallvec::SmallVec;
use wire::{Filter, Position};

/// Index of a connection in the table of its shard.
pub(crate) type Slot = u32;

/// The members of one scope. The index makes a message cost only the members of its topic, not all of the scope's.
#[derive(Debug, Default)]
pub(crate) struct ScopeMembers {
    /// Sorted by topic. Most scopes have one.
    topics: Vec<Topic>,
    /// Wildcard subscriptions: all topics below this head are wanted.
    below: Rare<(Box<str>, Slot)>,
    /// The joins that catch up. Most scopes have none most of the time.
    joins: Option<Box<PendingJoins>>,
    /// The newest position that this shard has seen in the scope. The default position if there was none.
    pub(crate) top: Position,
}

// There is one per scope, and each idle user has a scope of its own. In addition, a quarter of the table is empty.
const _: () = assert!(size_of::<ScopeMembers>() <= 56);

/// A list that most scopes do not have. It takes one word instead of three.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word where there is no list is the point")]
struct Rare<T>(Option<Box<Vec<T>>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Rare<T> {
    fn push(&mut self, item: T) {
        self.0.get_or_insert_default().push(item);
    }

    fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        let Some(list) = &mut self.0 else { return };
        list.retain(keep);
        if list.is_empty() {
            self.0 = None;
        }
    }
}

impl<T> std::ops::Deref for Rare<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], |list| list.as_slice())
    }
}

/// The joins of a scope by joiner number (see [`super::join::Join`]).
#[derive(Debug, Default)]
struct PendingJoins {
    /// Joins whose history is being read. They also receive live messages.
    reading: Vec<u64>,
    /// Joins that wait for their client to read. They are kept apart, so that a message does not have to look at each
    /// of them.
    waiting: Vec<u64>,
}

#[derive(Debug)]
struct Topic {
    name: Box<str>,
    members: SmallVec<[Slot; 4]>,
}

impl ScopeMembers {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.below.is_empty() && self.joins.is_none()
    }

    pub(crate) fn add(&mut self, filter: &Filter, slot: Slot) {
        match filter {
            Filter::Below(head) => self.below.push((head.clone(), slot)),
            Filter::Exact(topic) => match self.find(topic) {
                Ok(at) => self.topics[at].members.push(slot),
                Err(at) => {
                    let members = SmallVec::from_slice(&[slot]);
                    self.topics.reserve_exact(1);
                    self.topics.insert(at, Topic { name: topic.clone(), members });
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, filter: &Filter, slot: Slot) {
        match filter {
            Filter::Below(head) => {
                self.below.retain(|(other, s)| other != head || *s != slot);
            }
            Filter::Exact(topic) => {
                let Ok(at) = self.find(topic) else { return };
                let members = &mut self.topics[at].members;
                if let Some(member) = members.iter().position(|s| *s == slot) {
                    members.swap_remove(member);
                }
                if members.is_empty() {
                    self.topics.remove(at);
                }
            }
        }
    }

    /// A join starts to read history.
    pub(crate) fn begin(&mut self, joiner: u64) {
        self.joins.get_or_insert_default().reading.push(joiner);
    }

    /// A join waits until there is room for the next page.
    pub(crate) fn wait(&mut self, joiner: u64) {
        self.joins.get_or_insert_default().waiting.push(joiner);
    }

    /// A join has caught up, or was cancelled.
    pub(crate) fn end(&mut self, joiner: u64) {
        let Some(joins) = &mut self.joins else { return };
        for list in [&mut joins.reading, &mut joins.waiting] {
            if let Some(at) = list.iter().position(|other| *other == joiner) {
                list.swap_remove(at);
            }
        }
        if joins.reading.is_empty() && joins.waiting.is_empty() {
            self.joins = None;
        }
    }

    /// The joins whose history is being read.
    pub(crate) fn reading(&self) -> &[u64] {
        self.joins.as_ref().map_or(&[], |joins| &joins.reading)
    }

    /// All joins, both reading and waiting.
    pub(crate) fn joining(&self) -> impl Iterator<Item = u64> + '_ {
        self.joins.iter().flat_map(|joins| joins.reading.iter().chain(&joins.waiting).copied())
    }

    /// The connections with exactly this topic, each once.
    pub(crate) fn exact(&self, topic: &str) -> &[Slot] {
        self.find(topic).map_or(&[], |at| &self.topics[at].members)
    }

    /// The connections with a wildcard above `topic`. One connection may occur more than once.
    pub(crate) fn wildcards<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = Slot> + 'a {
        let above = |head: &str| match head {
            "" => !topic.is_empty(),
            head => topic.strip_prefix(head).is_some_and(|rest| rest.starts_with(':')),
        };
        self.below.iter().filter(move |(head, _)| above(head)).map(|(_, slot)| *slot)
    }

    /// All connections, once per subscription.
    pub(crate) fn all(&self) -> impl Iterator<Item = Slot> + '_ {
        let exact = self.topics.iter().flat_map(|topic| topic.members.iter().copied());
        exact.chain(self.below.iter().map(|(_, slot)| *slot))
    }

    fn find(&self, topic: &str) -> Result<usize, usize> {
        self.topics.binary_search_by(|other| (*other.name).cmp(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(topic: &str) -> Filter {
        Filter::Exact(topic.into())
    }

    fn below(head: &str) -> Filter {
        Filter::Below(head.into())
    }

    fn receivers(members: &ScopeMembers, topic: &str) -> Vec<Slot> {
        let mut all: Vec<_> = members.exact(topic).iter().copied().chain(members.wildcards(topic)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_topic_reaches_its_members_and_the_wildcards_above_it() {
        let mut members = ScopeMembers::default();
        members.add(&exact("ops"), 1);
        members.add(&exact("ops:cursor"), 2);
        members.add(&below("ops"), 3);
        members.add(&below(""), 4);
        members.add(&exact(""), 5);
        assert_eq!(receivers(&members, "ops"), [1, 4]);
        assert_eq!(receivers(&members, "ops:cursor"), [2, 3, 4]);
        assert_eq!(receivers(&members, ""), [5]);
        assert_eq!(receivers(&members, "other"), [4]);
    }

    #[test]
    fn the_index_agrees_with_the_filters_it_holds() {
        let filters = [exact(""), exact("a"), exact("a:b"), below(""), below("a"), below("a:b"), below("ab")];
        let mut members = ScopeMembers::default();
        for (slot, filter) in (0..).zip(&filters) {
            members.add(filter, slot);
        }
        for topic in ["", "a", "a:b", "a:b:c", "ab", "ab:c", "b"] {
            let wanted: Vec<Slot> =
                (0..).zip(&filters).filter(|(_, filter)| filter.matches(topic)).map(|(slot, _)| slot).collect();
            assert_eq!(receivers(&members, topic), wanted, "topic {topic:?}");
        }
    }

    #[test]
    fn nothing_stays_behind_the_last_member() {
        let mut members = ScopeMembers::default();
        for filter in [exact("a"), below("a"), exact("")] {
            members.add(&filter, 7);
            members.add(&filter, 8);
            members.remove(&filter, 7);
            members.remove(&filter, 7);
            assert!(!members.is_empty());
            members.remove(&filter, 8);
            assert!(members.is_empty());
        }
    }
}
