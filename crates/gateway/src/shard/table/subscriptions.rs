//! PURE. The subscriptions of connections to topics of scopes, and the joins that catch up.

use hashbrown::HashMap;
use message_router::Gap;
use wire::{Pattern, Position, Scope};

use crate::protocol::outgoing::Outgoing;
use crate::session::rules::Lane;
use crate::shard::join::Join;
use crate::shard::members::{ScopeMembers, Slot};
use crate::shard::table::connections::{Connections, Delivered};
use crate::shard::table::shrink::should_shrink;

/// The table of joins keeps room for this many.
const JOINS_KEPT: usize = 64;

/// The scopes of one shard. An answer for an ended join is ignored, because join numbers are not used twice.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    scopes: HashMap<Scope, ScopeMembers>,
    /// By joiner number. A join is taken out of the table while it is processed.
    joins: HashMap<u64, Join>,
    /// Counts messages, so that a connection with two matching subscriptions gets one copy.
    stamp: u64,
}

impl Subscriptions {
    pub(super) fn scope(&self, scope: &Scope) -> Option<&ScopeMembers> {
        self.scopes.get(scope)
    }

    pub(super) fn scope_mut(&mut self, scope: &Scope) -> Option<&mut ScopeMembers> {
        self.scopes.get_mut(scope)
    }

    /// The members of a scope. The scope is created if there is none.
    pub(super) fn enter(&mut self, scope: &Scope) -> &mut ScopeMembers {
        self.scopes.entry(scope.clone()).or_default()
    }

    /// Removes a scope without members. Returns whether it did.
    pub(super) fn end_if_empty(&mut self, scope: &Scope) -> bool {
        let is_empty = self.scopes.get(scope).is_some_and(ScopeMembers::is_empty);
        if is_empty {
            self.scopes.remove(scope);
        }
        is_empty
    }

    /// The newest position that this shard has seen in a scope.
    pub(super) fn top(&self, scope: &Scope) -> Option<Position> {
        self.scopes.get(scope).map(|members| members.top)
    }

    pub(super) fn join(&self, joiner: u64) -> Option<&Join> {
        self.joins.get(&joiner)
    }

    pub(super) fn join_mut(&mut self, joiner: u64) -> Option<&mut Join> {
        self.joins.get_mut(&joiner)
    }

    pub(super) fn take_join(&mut self, joiner: u64) -> Option<Join> {
        self.joins.remove(&joiner)
    }

    pub(super) fn put_join(&mut self, joiner: u64, join: Join) {
        self.joins.insert(joiner, join);
    }

    /// The joins of a scope, reading or waiting, except one that is being processed.
    pub(super) fn joins_in(&self, scope: &Scope) -> impl Iterator<Item = (u64, &Join)> {
        let joiners = self.scopes.get(scope).into_iter().flat_map(ScopeMembers::joining);
        joiners.filter_map(|joiner| Some((joiner, self.joins.get(&joiner)?)))
    }

    /// Queues messages of one scope for its members, up to the first message that a member cannot take at once. Returns
    /// how many messages were queued for all members, and the number of receivers. `slow` gets the connections that
    /// could not take the next message.
    pub(super) fn deliver(
        &mut self,
        scope: &Scope,
        messages: &[Outgoing],
        lane: Lane,
        connections: &mut Connections,
        slow: &mut Vec<Slot>,
    ) -> Option<(usize, u64)> {
        let members = self.scopes.get_mut(scope)?;
        let (mut done, mut receivers) = (0, 0);
        for message in messages {
            self.stamp += 1;
            let stamp = self.stamp;
            let mut send = |slot: Slot| match connections.deliver(slot, stamp, lane, message) {
                Delivered::Queued => receivers += 1,
                Delivered::Before => {}
                Delivered::Slowly => slow.push(slot),
            };
            let topic = message.topic();
            members.exact(topic).iter().for_each(|slot| send(*slot));
            members.wildcards(topic).for_each(&mut send);
            if message.position().is_none() {
                let joins = members.reading().iter().filter_map(|joiner| self.joins.get(joiner));
                joins.filter(|join| join.takes_local(topic)).for_each(|join| send(join.slot));
            }
            if !slow.is_empty() {
                break;
            }
            buffer(members, &mut self.joins, message);
            done += 1;
        }
        Some((done, receivers))
    }

    /// Buffers a message for the joins that read, and moves the scope's newest position.
    pub(super) fn buffer(&mut self, scope: &Scope, message: &Outgoing) {
        if let Some(members) = self.scopes.get_mut(scope) {
            buffer(members, &mut self.joins, message);
        }
    }

    /// Reports a gap to a scope: joins keep it as pending. Returns the connections with live subscriptions, which are
    /// to be sent the gap.
    pub(super) fn break_off(&mut self, scope: &Scope, gap: Gap) -> Vec<Slot> {
        let Some(members) = self.scopes.get_mut(scope) else { return Vec::new() };
        // The previous newest position may have been lost. No client may be moved to it any more.
        members.top = gap.upto;
        for joiner in members.joining() {
            if let Some(join) = self.joins.get_mut(&joiner) {
                join.break_off(gap);
            }
        }
        let mut slots: Vec<Slot> = members.all().collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Removes a pattern from the join of a connection. `known` has some of its joins. Returns the join if it has
    /// ended.
    pub(super) fn leave_join(&mut self, slot: Slot, pattern: &Pattern, known: &[u64]) -> Option<u64> {
        let members = self.scopes.get_mut(&pattern.scope)?;
        let joins = &self.joins;
        let is_own = |joiner: &u64| {
            joins.get(joiner).is_some_and(|join| {
                join.slot == slot
                    && join.scope == pattern.scope
                    && join.wanted.iter().any(|wanted| wanted.filter == pattern.filter)
            })
        };
        // All joins of the scope are searched too: a client that is closed while its `unsubscribe` is answered has no
        // entry among the slow clients any more.
        let Some(joiner) = known.iter().copied().find(is_own).or_else(|| members.joining().find(is_own)) else {
            // A join that is being processed belongs to this client, which is being closed while it catches up.
            let lost: Vec<u64> = members.joining().filter(|joiner| !joins.contains_key(joiner)).collect();
            lost.into_iter().for_each(|joiner| members.end(joiner));
            return None;
        };
        let join = self.joins.get_mut(&joiner)?;
        join.wanted.retain(|wanted| wanted.filter != pattern.filter);
        if !join.wanted.is_empty() {
            return None;
        }
        self.joins.remove(&joiner);
        members.end(joiner);
        Some(joiner)
    }

    /// Shrinks the table of joins when it is empty.
    pub(super) fn shrink_joins(&mut self) {
        if self.joins.is_empty() {
            self.joins.shrink_to(JOINS_KEPT);
        }
    }

    /// Lengths and capacities of the tables of scopes and joins.
    #[cfg(test)]
    pub(super) fn tables(&self) -> [(usize, usize); 2] {
        [(self.scopes.len(), self.scopes.capacity()), (self.joins.len(), self.joins.capacity())]
    }

    /// Shrinks the tables after many connections have closed.
    pub(super) fn shrink(&mut self) {
        if should_shrink(self.scopes.capacity(), self.scopes.len()) {
            self.scopes.shrink_to(2 * self.scopes.len());
        }
    }
}

fn buffer(members: &mut ScopeMembers, joins: &mut HashMap<u64, Join>, message: &Outgoing) {
    let Some(position) = message.position() else { return };
    for joiner in members.reading() {
        if let Some(join) = joins.get_mut(joiner) {
            join.receive(message);
        }
    }
    members.top = members.top.max(position);
}
