//! PURE. Evicting queued messages of slow clients that can be read again from history.
//!
//! ```text
//!   queued:  [begun] 41 42 43 44 45   ──▶   [begun] 41 42          and the client is behind since 42
//!                          └─ from the back, as far as history has them
//! ```

use message_router::OnSlow;

use super::*;

/// Which messages of one scope may be evicted for a client.
struct EvictionMark {
    scope: Scope,
    /// Messages up to this position are not read again.
    floor: Position,
    /// The first evicted message.
    first: Option<Position>,
    /// Whether all earlier messages are kept.
    is_pinned: bool,
}

impl Shard {
    /// Frees at least `bytes` of what waits for clients with full sockets. The largest outboxes come first, so that few
    /// clients are affected. A client whose outbox cannot be halved is closed.
    pub(crate) fn evict(&mut self, bytes: u64) {
        let waits = |connection: &Connection| connection.blocked && connection.state == ConnectionState::Open;
        let mut slots: Vec<(u64, Slot)> = self
            .connections
            .iter()
            .filter(|(_, connection)| waits(connection))
            .map(|(slot, connection)| (connection.outbox.cost(), slot))
            .collect();
        slots.sort_unstable_by(|a, b| b.cmp(a));
        let mut freed = 0;
        for (before, slot) in slots {
            if freed >= bytes {
                break;
            }
            self.counters.slow_evictions.add(1);
            self.evict_queued(slot, 0);
            self.conflate_outbox(slot);
            if self.connections[slot].outbox.cost() > before / 2 {
                self.close_slow(slot);
            }
            freed += before.saturating_sub(self.connections[slot].outbox.cost());
        }
    }

    /// Evicts queued messages that history has, from the back, until at most `keep` bytes wait. The client is then
    /// behind in their scopes.
    pub(super) fn evict_queued(&mut self, slot: Slot, keep: usize) {
        if self.connections[slot].state != ConnectionState::Open {
            return;
        }
        let mut marks = self.marks(slot);
        let may_evict = |message: &Outgoing| {
            let mark = marks.iter_mut().find(|mark| mark.scope == *message.scope());
            mark.is_some_and(|mark| mark.may_evict(message.position()))
        };
        self.connections.change_outbox(slot, |outbox| outbox.evict(keep, may_evict));
        for EvictionMark { scope, first, .. } in marks {
            if let Some(first) = first {
                let after = Position::new(first.generation, first.offset.saturating_sub(1));
                self.rewind(slot, &scope, after);
            }
        }
    }

    /// What may be evicted: messages of scopes with a history in which all of the client's subscriptions are at the
    /// same position.
    fn marks(&self, slot: Slot) -> Vec<EvictionMark> {
        let mut marks: Vec<EvictionMark> = Vec::new();
        for subscription in &self.connections[slot].session.subscriptions {
            let scope = &subscription.pattern.scope;
            // Messages queued before the subscription is announced belong to an earlier one. They are not read again.
            let is_announced = subscription.floor != Position::default();
            if self.rules.on_slow(scope) != OnSlow::CatchUp || !is_announced {
                continue;
            }
            let at = marks.iter().position(|mark| mark.scope == *scope).unwrap_or_else(|| {
                let floor = Position::default();
                marks.push(EvictionMark { scope: scope.clone(), floor, first: None, is_pinned: false });
                marks.len() - 1
            });
            let mark = &mut marks[at];
            mark.floor = mark.floor.max(subscription.floor);
            mark.is_pinned |= subscription.live && self.behind_in(slot, scope).is_some();
        }
        marks
    }

    /// The client's subscriptions in a scope continue after `after`, which is before the messages queued for them.
    fn rewind(&mut self, slot: Slot, scope: &Scope, after: Position) {
        let Some(old) = self.behind_in(slot, scope) else { return self.fall_behind(slot, scope, after) };
        let Some(mut join) = self.subscriptions.take_join(old) else { return };
        for wanted in &mut join.wanted {
            wanted.after = wanted.after.min(Some(after));
        }
        // A page that is on its way begins too late. The new number makes sure that it is ignored.
        let joiner = self.next_number();
        self.wait(joiner, join);
        self.end_behind(slot, old);
        if let Some(members) = self.subscriptions.scope_mut(scope) {
            members.end(old);
        }
    }
}

// === impl EvictionMark ===

impl EvictionMark {
    /// Whether a message is evicted, if every later message that could be evicted has been.
    fn may_evict(&mut self, position: Option<Position>) -> bool {
        let may_evict =
            position.filter(|position| *position > self.floor && self.first.is_none_or(|first| *position < first));
        self.is_pinned |= may_evict.is_none();
        if self.is_pinned {
            return false;
        }
        self.first = position;
        true
    }
}
