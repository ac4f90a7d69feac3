//! PURE. Clients that read more slowly than messages come.
//!
//! ```text
//!   live ──outbox full──▶ behind: nothing more is queued ──outbox empty──▶ history, page by page ──▶ live
//! ```
//!
//! Nobody else waits for such a client, and nothing is kept for it that can be read again.

use message_router::OnSlow;

use super::*;
use crate::shard::conflation::Conflation;

/// So many scopes of one client are read at the same time: together about as much as an outbox takes.
const READING_MAX: usize = 4;

/// A client that is behind the live flow, or waits for it.
#[derive(Debug, Default)]
pub(crate) struct SlowClient {
    /// Its joins that go on in pages, and those that wait for them.
    pub(super) joins: Vec<u64>,
    /// Some of its subscriptions were live, and the client was too slow for them.
    pub(super) fell_behind: bool,
    /// What is kept for it in scopes of which it is given the newest alone.
    pub(super) conflations: Vec<Conflation>,
}

/// The slow clients of one shard.
#[derive(Debug, Default)]
pub(crate) struct SlowClients {
    by_slot: HashMap<Slot, SlowClient>,
    /// Scratch for those whose sockets take nothing.
    scratch: Vec<Slot>,
}

impl SlowClients {
    pub(super) fn get(&self, slot: Slot) -> Option<&SlowClient> {
        self.by_slot.get(&slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut SlowClient> {
        self.by_slot.get_mut(&slot)
    }

    /// The entry of a client, which begins if there was none.
    pub(super) fn enter(&mut self, slot: Slot) -> &mut SlowClient {
        self.by_slot.entry(slot).or_default()
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<SlowClient> {
        self.by_slot.remove(&slot)
    }

    pub(super) fn take_scratch(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.scratch)
    }

    pub(super) fn give_scratch(&mut self, scratch: Vec<Slot>) {
        self.scratch = scratch;
    }

    /// Length and capacity of the table.
    #[cfg(test)]
    pub(super) fn table(&self) -> (usize, usize) {
        (self.by_slot.len(), self.by_slot.capacity())
    }

    /// Shrinks the tables after many connections have closed.
    pub(super) fn shrink(&mut self) {
        if should_shrink(self.by_slot.capacity(), self.by_slot.len()) {
            self.by_slot.shrink_to(2 * self.by_slot.len());
        }
        self.scratch.shrink_to(TABLE_KEPT);
    }
}

impl Shard {
    /// Hands a message to clients whose sockets take nothing now. `slots` is emptied.
    pub(super) fn deliver_slowly(&mut self, scope: &Scope, message: &Outgoing, slots: &mut Vec<Slot>) -> u64 {
        let lane = self.rules.lane(scope);
        // Everything up to here has been queued for all of them.
        let after = self.subscriptions.top(scope).unwrap_or_default();
        let mut receivers = 0;
        for slot in slots.drain(..) {
            if self.connections[slot].is_conflating && self.conflate(slot, scope, message) {
                continue;
            }
            let bytes_max = self.connections.bytes_max(slot);
            match (
                self.connections.push(slot, lane, Outbound::Message(message.clone()), bytes_max),
                self.rules.on_slow(scope),
            ) {
                (Queued::Yes, _) => receivers += 1,
                (Queued::Full, OnSlow::CatchUp) => self.fall_behind(slot, scope, after),
                (Queued::Full, OnSlow::Latest) => self.begin_conflation(slot, scope, after, message),
                (Queued::Full, OnSlow::Close) => self.close_slow(slot),
            }
        }
        receivers
    }

    /// The client's subscriptions in a scope stop being live: what is behind `after` is read for them when it has room.
    pub(super) fn fall_behind(&mut self, slot: Slot, scope: &Scope, after: Position) {
        let Some(members) = self.subscriptions.scope_mut(scope) else { return };
        let subscriptions = &mut self.connections[slot].session.subscriptions;
        let mut wanted = Vec::new();
        let mut others = false;
        for subscription in subscriptions.iter_mut().filter(|s| s.pattern.scope == *scope) {
            others |= !subscription.live;
            if std::mem::replace(&mut subscription.live, false) {
                let filter = subscription.pattern.filter.clone();
                members.remove(&filter, slot);
                wanted.push(Wanted { filter, after: Some(after) });
            }
        }
        if wanted.is_empty() {
            return; // A message of this instance alone, for one that catches up anyway.
        }
        if others {
            self.begin_again(slot, scope);
        }
        if let Some(joiner) = self.behind_in(slot, scope) {
            // What was read for the others meanwhile came behind what these have got.
            self.raise_floor(slot, scope, after);
            self.subscriptions.join_mut(joiner).expect("it has just been found").wanted.append(&mut wanted);
        } else {
            let joiner = self.next_number();
            let (buffer, announced, stage) = (LiveBuffer::default(), Announced::Subscribed, JoinStage::Waiting);
            let (scope, pending_gaps, correlation_id) = (scope.clone(), Vec::new(), None);
            let join = Join {
                slot,
                scope,
                wanted,
                correlation_id,
                buffer,
                announced,
                stage,
                asked_with_position: false,
                pending_gaps,
            };
            self.wait(joiner, join);
        }
        self.mark_slow(slot);
    }

    /// A client is too slow to stay live.
    pub(super) fn mark_slow(&mut self, slot: Slot) -> &mut SlowClient {
        self.connections[slot].is_behind = true;
        let slow_client = self.slow_clients.enter(slot);
        if !std::mem::replace(&mut slow_client.fell_behind, true) {
            self.counters.slow_clients.add(1);
        }
        slow_client
    }

    /// Subscriptions of this client in this scope that were never announced begin again when the others are live: what
    /// has been read for them counted on the others.
    fn begin_again(&mut self, slot: Slot, scope: &Scope) {
        let Some(members) = self.subscriptions.scope(scope) else { return };
        let is_fresh = |join: &Join| join.slot == slot && !join.is_announced();
        let fresh: Vec<u64> = members
            .reading()
            .iter()
            .copied()
            .filter(|joiner| self.subscriptions.join(*joiner).is_some_and(is_fresh))
            .collect();
        for joiner in fresh {
            let Some(join) = self.subscriptions.take_join(joiner) else { continue };
            self.subscriptions.enter(scope).end(joiner);
            if let Some(slow_client) = self.slow_clients.get_mut(slot) {
                slow_client.joins.retain(|other| *other != joiner);
            }
            // The answer that is on its way finds nobody.
            let joiner = self.next_number();
            self.wait(joiner, join);
        }
    }

    /// A join goes on when its client has read what is queued. Until then nothing is held for it.
    pub(super) fn wait(&mut self, joiner: u64, mut join: Join) {
        if self.connections[join.slot].state != ConnectionState::Open {
            return; // It was closed while this was in hand, and has left its scopes.
        }
        (join.buffer, join.stage) = (LiveBuffer::default(), JoinStage::Waiting);
        let members = self.subscriptions.enter(&join.scope);
        members.end(joiner);
        members.wait(joiner);
        let slot = join.slot;
        self.subscriptions.put_join(joiner, join);
        self.note_behind(slot, joiner);
        self.connections.mark_dirty(slot);
    }

    pub(super) fn note_behind(&mut self, slot: Slot, joiner: u64) {
        let slow_client = self.slow_clients.enter(slot);
        if !slow_client.joins.contains(&joiner) {
            slow_client.joins.push(joiner);
        }
        self.connections[slot].is_behind = true;
    }

    /// The join, if there is one, by which announced subscriptions of this client in this scope catch up.
    pub(super) fn behind_in(&self, slot: Slot, scope: &Scope) -> Option<u64> {
        let announced = |joiner: &u64| {
            self.subscriptions.join(*joiner).is_some_and(|join| join.is_announced() && join.scope == *scope)
        };
        self.slow_clients.get(slot)?.joins.iter().copied().find(announced)
    }

    /// A join is done with. Says whether a client that had fallen behind is behind nowhere now.
    pub(super) fn end_behind(&mut self, slot: Slot, joiner: u64) -> bool {
        let Some(slow_client) = self.slow_clients.get_mut(slot) else { return false };
        slow_client.joins.retain(|other| *other != joiner);
        if !slow_client.joins.is_empty() || !slow_client.conflations.is_empty() {
            // Others may go on now.
            self.connections.mark_dirty(slot);
            return false;
        }
        let fell_behind = slow_client.fell_behind;
        self.forget_behind(slot);
        fell_behind
    }

    pub(super) fn forget_behind(&mut self, slot: Slot) {
        if let Some(slow_client) = self.slow_clients.remove(slot) {
            self.counters.slow_clients.sub(u64::from(slow_client.fell_behind));
            self.counters.backlog.sub(slow_client.conflations.iter().map(Conflation::cost).sum());
        }
        let connection = &mut self.connections[slot];
        (connection.is_behind, connection.is_conflating) = (false, false);
    }

    /// A client has been written everything: the next pages are asked for.
    pub(crate) fn resume_replays(&mut self, slot: Slot) {
        if !self.connections[slot].is_behind {
            return;
        }
        self.flush_conflated(slot);
        let Some(slow_client) = self.slow_clients.get(slot) else { return };
        let stage = |joiner: &u64| self.subscriptions.join(*joiner).map(|join| join.stage);
        let reading = slow_client.joins.iter().filter(|joiner| stage(joiner) == Some(JoinStage::Reading)).count();
        let may_go_on = |joiner: &u64| {
            let Some(join) = self.subscriptions.join(*joiner) else { return false };
            join.stage == JoinStage::Waiting && (join.is_announced() || !self.is_preceded(*joiner, join))
        };
        let room = READING_MAX.saturating_sub(reading);
        let next: Vec<u64> = slow_client.joins.iter().copied().filter(may_go_on).take(room).collect();
        for joiner in next {
            let Some(join) = self.subscriptions.take_join(joiner) else { continue };
            let members = self.subscriptions.enter(&join.scope);
            members.end(joiner);
            members.begin(joiner);
            self.ask(joiner, join);
        }
    }

    /// Nothing up to `position` is read again for this client's subscriptions in this scope.
    pub(super) fn raise_floor(&mut self, slot: Slot, scope: &Scope, position: Position) {
        let subscriptions = &mut self.connections[slot].session.subscriptions;
        for subscription in subscriptions.iter_mut().filter(|s| s.pattern.scope == *scope) {
            subscription.floor = subscription.floor.max(position);
        }
    }

    /// The socket takes no more for now: from here on the outbox is bounded. Says when to look whether it has taken
    /// anything, if that is sooner than planned.
    pub(crate) fn block(&mut self, slot: Slot, now: Now) -> Option<u64> {
        let connection = &mut self.connections[slot];
        debug_assert!(!connection.blocked, "a blocked socket is not written to");
        connection.blocked = true;
        connection.blocked_ms = now.mono_ms;
        self.counters.backlog.add(connection.outbox.cost());
        let bytes_max = self.rules.limits.outbox_bytes_max;
        if connection.outbox.bytes() > bytes_max && connection.state == ConnectionState::Open {
            // Much came at once, and it turns out that the socket does not take it.
            self.evict_queued(slot, bytes_max);
            if self.connections[slot].outbox.bytes() > bytes_max + self.rules.limits.answers_bytes_max() {
                self.close_slow(slot);
            }
        }
        self.wake_sooner(slot, now)
    }

    /// The socket takes more again.
    pub(crate) fn unblock(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !std::mem::replace(&mut connection.blocked, false) {
            return;
        }
        // Whoever reads is there, even if its answer to a ping is far behind what it has yet to read.
        if connection.ping == Ping::Silent {
            connection.ping = Ping::Alive;
        }
        self.counters.backlog.sub(connection.outbox.cost());
        self.connections.mark_dirty(slot);
    }
}
