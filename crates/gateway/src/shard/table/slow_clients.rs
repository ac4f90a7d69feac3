//! PURE. Clients that read more slowly than messages arrive.
//!
//! ```text
//!   live ──outbox full──▶ behind: nothing more is queued ──outbox empty──▶ history, page by page ──▶ live
//! ```
//!
//! No other client waits for a slow one. Nothing that can be read again is kept for it.

use message_router::OnSlow;

use super::*;
use crate::shard::conflation::Conflation;

/// How many scopes of one client are read at the same time. Their pages together take about as much memory as an
/// outbox.
const READING_MAX: usize = 4;

/// A client that is behind the live messages, or waits for its turn to catch up.
#[derive(Debug, Default)]
pub(crate) struct SlowClient {
    /// Its joins that read page by page, and its joins that wait.
    pub(super) joins: Vec<u64>,
    /// Whether some of its live subscriptions fell behind because the client was too slow.
    pub(super) fell_behind: bool,
    /// The kept messages in scopes where it gets only the newest of each topic.
    pub(super) conflations: Vec<Conflation>,
}

/// The slow clients of one shard.
#[derive(Debug, Default)]
pub(crate) struct SlowClients {
    by_slot: HashMap<Slot, SlowClient>,
    /// Scratch for the clients that cannot take a message at once.
    scratch: Vec<Slot>,
}

impl SlowClients {
    pub(super) fn get(&self, slot: Slot) -> Option<&SlowClient> {
        self.by_slot.get(&slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut SlowClient> {
        self.by_slot.get_mut(&slot)
    }

    /// The entry of a client. It is created if there is none.
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
    /// Delivers a message to clients that cannot take it at once. Empties `slots`.
    pub(super) fn deliver_slowly(&mut self, scope: &Scope, message: &Outgoing, slots: &mut Vec<Slot>) -> u64 {
        let lane = self.rules.lane(scope);
        // All of them have everything up to this position in their outboxes.
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

    /// Ends the live state of the client's subscriptions in a scope. Messages after `after` are read from history when
    /// the client has room.
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
            return; // The message is local to this instance, and the client is already catching up.
        }
        if others {
            self.begin_again(slot, scope);
        }
        if let Some(joiner) = self.behind_in(slot, scope) {
            // Pages read for the other subscriptions in the meantime were queued behind the messages of these.
            self.raise_floor(slot, scope, after);
            self.subscriptions.join_mut(joiner).expect("it has just been found").wanted.append(&mut wanted);
        } else {
            let joiner = self.next_number();
            let join = Join::new(slot, scope.clone(), wanted);
            self.wait(joiner, Join { announced: Announced::Subscribed, stage: JoinStage::Waiting, ..join });
        }
        self.mark_slow(slot);
    }

    /// Marks a client as too slow to stay live.
    pub(super) fn mark_slow(&mut self, slot: Slot) -> &mut SlowClient {
        self.connections[slot].is_behind = true;
        let slow_client = self.slow_clients.enter(slot);
        if !std::mem::replace(&mut slow_client.fell_behind, true) {
            self.counters.slow_clients.add(1);
        }
        slow_client
    }

    /// Restarts those joins of this client in this scope that were never announced, once the others are live. Their
    /// pages left out what the other subscriptions were to deliver.
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
            // The new number makes sure that the answer on its way is ignored.
            let joiner = self.next_number();
            self.wait(joiner, join);
        }
    }

    /// Lets a join wait until its client has read what is queued. Until then nothing is buffered for it.
    pub(super) fn wait(&mut self, joiner: u64, mut join: Join) {
        if self.connections[join.slot].state != ConnectionState::Open {
            return; // The connection was closed in the meantime, and its subscriptions have ended.
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

    /// The join with which announced subscriptions of this client in this scope catch up, if there is one.
    pub(super) fn behind_in(&self, slot: Slot, scope: &Scope) -> Option<u64> {
        let announced = |joiner: &u64| {
            self.subscriptions.join(*joiner).is_some_and(|join| join.is_announced() && join.scope == *scope)
        };
        self.slow_clients.get(slot)?.joins.iter().copied().find(announced)
    }

    /// Ends a join. Returns whether a client that had fallen behind has caught up everywhere now.
    pub(super) fn end_behind(&mut self, slot: Slot, joiner: u64) -> bool {
        let Some(slow_client) = self.slow_clients.get_mut(slot) else { return false };
        slow_client.joins.retain(|other| *other != joiner);
        if !slow_client.joins.is_empty() || !slow_client.conflations.is_empty() {
            // Other joins may continue now.
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

    /// Everything queued for a client has been written. Requests the next pages.
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

    /// Messages up to `position` are not read again for this client's subscriptions in this scope.
    pub(super) fn raise_floor(&mut self, slot: Slot, scope: &Scope, position: Position) {
        let subscriptions = &mut self.connections[slot].session.subscriptions;
        for subscription in subscriptions.iter_mut().filter(|s| s.pattern.scope == *scope) {
            subscription.floor = subscription.floor.max(position);
        }
    }

    /// The socket is full, so the outbox is bounded from now on. Returns when to check whether the client has read
    /// anything, if that is sooner than planned.
    pub(crate) fn block(&mut self, slot: Slot, now: Now) -> Option<u64> {
        let connection = &mut self.connections[slot];
        debug_assert!(!connection.blocked, "a blocked socket is not written to");
        connection.blocked = true;
        connection.blocked_ms = now.mono_ms;
        self.counters.backlog.add(connection.outbox.cost());
        let is_open = connection.state == ConnectionState::Open;
        let bytes_max = self.connections.bytes_max(slot);
        if self.connections[slot].outbox.bytes() > bytes_max && is_open {
            // Many messages came at once, and the socket has no room for them.
            let closes_above = bytes_max + self.rules.limits.answers_bytes_max();
            self.evict_queued(slot, bytes_max);
            if self.connections[slot].outbox.bytes() > closes_above {
                self.conflate_outbox(slot);
            }
            if self.connections[slot].outbox.bytes() > closes_above {
                self.close_slow(slot);
            }
        }
        self.wake_sooner(slot, now)
    }

    /// The socket has room again.
    pub(crate) fn unblock(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !std::mem::replace(&mut connection.blocked, false) {
            return;
        }
        // A client that reads is alive, even if the ping is far behind what it still has to read.
        if connection.ping == Ping::Silent {
            connection.ping = Ping::Alive;
        }
        self.counters.backlog.sub(connection.outbox.cost());
        self.connections.mark_dirty(slot);
    }
}
