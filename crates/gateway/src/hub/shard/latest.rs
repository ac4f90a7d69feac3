//! PURE. Slow clients of families that want the newest of each topic alone: cursors, presence, prices.

use message_router::OnSlow;
use wire::{GapReason, message_place};

use super::*;
use crate::hub::newest::{Newest, Step};

impl Shard {
    /// A message did not fit: from here on the newest of each topic is kept, until all that is queued is written.
    pub(super) fn begin_newest(&mut self, slot: Slot, scope: &Scope, after: Position, message: &Outgoing) {
        self.connections[slot as usize].keeps_newest = true;
        self.note_fallen(slot).newest.push(Newest::new(scope.clone(), after));
        self.keep_newest(slot, scope, message);
    }

    /// Keeps a message if the newest of its scope are kept for this client.
    pub(super) fn keep_newest(&mut self, slot: Slot, scope: &Scope, message: &Outgoing) -> bool {
        let bytes_max = replay_pause_bytes(&self.rules);
        let Some(behind) = self.behind.get_mut(&slot) else { return false };
        let Some(newest) = behind.newest.iter_mut().find(|newest| newest.scope == *scope) else { return false };
        let before = newest.cost();
        let gone = newest.keep(message, bytes_max);
        self.counters.backlog.add(newest.cost());
        self.counters.backlog.sub(before);
        self.counters.superseded.add(gone);
        true
    }

    /// The client is given what was kept, with the gaps between, and is live again: when all that was queued is written,
    /// or something comes that must stand behind it.
    pub(super) fn give_newest(&mut self, slot: Slot) {
        if !self.connections[slot as usize].keeps_newest {
            return;
        }
        let Some(behind) = self.behind.get_mut(&slot) else { return };
        for newest in std::mem::take(&mut behind.newest) {
            self.counters.backlog.sub(newest.cost());
            let (scope, lane) = (newest.scope.clone(), self.rules.lane(&newest.scope));
            let subscriptions = self.connections[slot as usize].session.subscriptions.iter();
            let live = subscriptions.filter(|s| s.live && s.pattern.scope == scope);
            let channels: Vec<String> = live.map(|s| s.pattern.to_string()).collect();
            // With several, what is missing may be another's.
            let certain = channels.len() == 1;
            for step in newest.into_steps() {
                match step {
                    Step::Message(message) => self.queue(slot, lane, message.frame),
                    Step::Gap { after, upto } => {
                        self.raise_floor(slot, &scope, upto);
                        for channel in &channels {
                            self.counters.gaps.add(1);
                            let gap = Gap { after: Some(after), upto, reason: GapReason::Slow, certain };
                            self.queue(slot, lane, catch_up::gap_frame(channel, gap));
                        }
                    }
                }
            }
        }
        self.connections[slot as usize].keeps_newest = false;
        if let Some(behind) = self.behind.get(&slot)
            && behind.joins.is_empty()
        {
            self.counters.slow_catch_ups.add(u64::from(behind.fell));
            self.forget_behind(slot);
        }
    }

    /// A subscription has ended: nothing is kept for it alone.
    pub(super) fn thin_newest(&mut self, slot: Slot, scope: &Scope) {
        let Some(behind) = self.behind.get_mut(&slot) else { return };
        let subscriptions = &self.connections[slot as usize].session.subscriptions;
        let wanted = |topic: &str| {
            subscriptions.iter().any(|s| s.live && s.pattern.scope == *scope && s.pattern.filter.matches(topic))
        };
        for newest in behind.newest.iter_mut().filter(|newest| newest.scope == *scope) {
            let before = newest.cost();
            newest.retain(wanted);
            self.counters.backlog.sub(before - newest.cost());
        }
    }

    /// Lets go of queued messages in favour of the newest of their topics.
    pub(super) fn fold(&mut self, slot: Slot) {
        let mut scopes: Vec<Scope> = Vec::new();
        for subscription in &self.connections[slot as usize].session.subscriptions {
            let scope = &subscription.pattern.scope;
            if subscription.live && self.rules.on_slow(scope) == OnSlow::Latest && !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        for scope in scopes {
            if self.behind_in(slot, &scope).is_some() {
                continue; // What is replayed to another subscription is not superseded for that one.
            }
            let subscriptions = self.connections[slot as usize].session.subscriptions.iter();
            let floor = subscriptions.filter(|s| s.pattern.scope == scope).map(|s| s.floor).max().unwrap_or_default();
            let mut is_pinned = false;
            let mut folded: Vec<Outgoing> = Vec::new();
            let connection = &mut self.connections[slot as usize];
            let before = connection.outbox.cost();
            connection.outbox.thin(0, |frame| {
                let Some((channel, position)) = message_place(frame) else { return false };
                let Some(rest) = channel.strip_prefix(scope.name()) else { return false };
                let Some(topic) = rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(rest)) else {
                    return false;
                };
                is_pinned |= position.is_none_or(|position| position <= floor);
                let (false, Some(position)) = (is_pinned, position) else { return false };
                let topic = bytes::Bytes::copy_from_slice(topic.as_bytes());
                folded.push(Outgoing::new(Some(position), topic, frame.clone()));
                true
            });
            if connection.blocked {
                self.counters.backlog.sub(before - connection.outbox.cost());
            }
            let Some(first) = folded.iter().filter_map(|message| message.position).min() else { continue };
            let after = Position::new(first.generation, first.offset.saturating_sub(1));
            self.connections[slot as usize].keeps_newest = true;
            let behind = self.note_fallen(slot);
            let old = behind.newest.iter().position(|newest| newest.scope == scope);
            let old = old.map(|at| behind.newest.swap_remove(at));
            behind.newest.push(Newest::new(scope.clone(), after));
            self.counters.backlog.sub(old.as_ref().map_or(0, Newest::cost));
            let later = old.map_or_else(Vec::new, Newest::into_steps);
            for message in folded.iter().rev() {
                self.keep_newest(slot, &scope, message);
            }
            for step in later {
                match step {
                    Step::Message(message) => _ = self.keep_newest(slot, &scope, &message),
                    Step::Gap { upto, .. } => {
                        let behind = self.behind.entry(slot).or_default();
                        let newest = behind.newest.iter_mut().filter(|newest| newest.scope == scope);
                        newest.for_each(|newest| newest.miss(upto));
                    }
                }
            }
        }
    }
}
