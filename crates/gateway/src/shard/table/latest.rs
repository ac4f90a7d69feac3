//! PURE. Slow clients of families that need only the newest message of each topic, for example cursors or prices.

use message_router::OnSlow;
use wire::GapReason;

use super::*;
use crate::shard::conflation::{ConflatedItem, Conflation};

impl Shard {
    /// A message did not fit. From now on only the newest message of each topic is kept, until everything queued is
    /// written.
    pub(super) fn begin_conflation(&mut self, slot: Slot, scope: &Scope, after: Position, message: &Outgoing) {
        self.connections[slot].is_conflating = true;
        self.mark_slow(slot).conflations.push(Conflation::new(scope.clone(), after));
        self.conflate(slot, scope, message);
    }

    /// Keeps a message if this client conflates its scope. Returns whether it does.
    pub(super) fn conflate(&mut self, slot: Slot, scope: &Scope, message: &Outgoing) -> bool {
        let bytes_max = self.rules.limits.replay_pause_bytes();
        let Some(slow_client) = self.slow_clients.get_mut(slot) else { return false };
        let Some(conflation) = slow_client.conflations.iter_mut().find(|conflation| conflation.scope == *scope) else {
            return false;
        };
        let before = conflation.cost();
        let gone = conflation.keep(message, bytes_max);
        self.counters.backlog.add(conflation.cost());
        self.counters.backlog.sub(before);
        self.counters.superseded.add(gone);
        true
    }

    /// Queues the kept messages, with gaps between them, and makes the client live again. This happens when everything
    /// queued is written, or before something that must come after them.
    pub(super) fn flush_conflated(&mut self, slot: Slot) {
        if !self.connections[slot].is_conflating {
            return;
        }
        let Some(slow_client) = self.slow_clients.get_mut(slot) else { return };
        for conflation in std::mem::take(&mut slow_client.conflations) {
            self.counters.backlog.sub(conflation.cost());
            let (scope, lane) = (conflation.scope.clone(), self.rules.lane(&conflation.scope));
            let subscriptions = self.connections[slot].session.subscriptions.iter();
            let live = subscriptions.filter(|s| s.live && s.pattern.scope == scope);
            let channels: Vec<String> = live.map(|s| s.pattern.to_string()).collect();
            // With several subscriptions, the missing messages may belong to another one.
            let certain = channels.len() == 1;
            for item in conflation.into_items() {
                match item {
                    ConflatedItem::Message(message) => self.queue_outbound(slot, lane, Outbound::Message(message)),
                    ConflatedItem::Gap { after, upto } => {
                        self.raise_floor(slot, &scope, upto);
                        for channel in &channels {
                            self.counters.gaps.add(1);
                            let gap = Gap { after: Some(after), upto, reason: GapReason::Slow, certain };
                            self.queue(slot, lane, &catch_up::gap_reply(channel.clone(), gap));
                        }
                    }
                }
            }
        }
        self.connections[slot].is_conflating = false;
        if let Some(slow_client) = self.slow_clients.get(slot)
            && slow_client.joins.is_empty()
        {
            self.counters.slow_catch_ups.add(u64::from(slow_client.fell_behind));
            self.forget_behind(slot);
        }
    }

    /// A subscription has ended. Drops kept messages that no other subscription wants.
    pub(super) fn prune_conflated(&mut self, slot: Slot, scope: &Scope) {
        let Some(slow_client) = self.slow_clients.get_mut(slot) else { return };
        let subscriptions = &self.connections[slot].session.subscriptions;
        let wanted = |topic: &str| {
            subscriptions.iter().any(|s| s.live && s.pattern.scope == *scope && s.pattern.filter.matches(topic))
        };
        for conflation in slow_client.conflations.iter_mut().filter(|conflation| conflation.scope == *scope) {
            let before = conflation.cost();
            conflation.retain(wanted);
            self.counters.backlog.sub(before - conflation.cost());
        }
    }

    /// Replaces queued messages by the newest one of each topic.
    pub(super) fn conflate_outbox(&mut self, slot: Slot) {
        let mut scopes: Vec<Scope> = Vec::new();
        for subscription in &self.connections[slot].session.subscriptions {
            let scope = &subscription.pattern.scope;
            if subscription.live && self.rules.on_slow(scope) == OnSlow::Latest && !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        for scope in scopes {
            if self.behind_in(slot, &scope).is_some() {
                continue; // A newer message does not replace one that is replayed for another subscription.
            }
            let subscriptions = self.connections[slot].session.subscriptions.iter();
            let floor = subscriptions.filter(|s| s.pattern.scope == scope).map(|s| s.floor).max().unwrap_or_default();
            let mut is_pinned = false;
            let mut conflated: Vec<Outgoing> = Vec::new();
            let may_evict = |message: &Outgoing| {
                if *message.scope() != scope {
                    return false;
                }
                is_pinned |= message.position().is_none_or(|position| position <= floor);
                if !is_pinned {
                    conflated.push(message.clone());
                }
                !is_pinned
            };
            self.connections.change_outbox(slot, |outbox| outbox.evict(0, may_evict));
            let Some(first) = conflated.iter().filter_map(Outgoing::position).min() else { continue };
            let after = Position::new(first.generation, first.offset.saturating_sub(1));
            self.connections[slot].is_conflating = true;
            let slow_client = self.mark_slow(slot);
            let old = slow_client.conflations.iter().position(|conflation| conflation.scope == scope);
            let old = old.map(|at| slow_client.conflations.swap_remove(at));
            slow_client.conflations.push(Conflation::new(scope.clone(), after));
            self.counters.backlog.sub(old.as_ref().map_or(0, Conflation::cost));
            let later = old.map_or_else(Vec::new, Conflation::into_items);
            for message in conflated.iter().rev() {
                self.conflate(slot, &scope, message);
            }
            for item in later {
                match item {
                    ConflatedItem::Message(message) => _ = self.conflate(slot, &scope, &message),
                    ConflatedItem::Gap { upto, .. } => {
                        let slow_client = self.slow_clients.enter(slot);
                        let conflation =
                            slow_client.conflations.iter_mut().filter(|conflation| conflation.scope == scope);
                        conflation.for_each(|conflation| conflation.miss(upto));
                    }
                }
            }
        }
    }
}
