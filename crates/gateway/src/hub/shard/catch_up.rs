//! PURE. Joining and leaving scopes: how a subscription becomes live without losing or doubling a message.

use message_router::Start;

use super::*;

/// Room for so many who catch up is kept.
const JOINS_KEPT: usize = 64;

impl Shard {
    /// Begins to catch up. From here on the scope's messages are held for this client.
    pub(super) fn join(&mut self, slot: Slot, request: JoinRequest) {
        let JoinRequest { scope, wanted, correlation_id } = request;
        self.next_number += 1;
        let joiner = self.next_number;
        // The oldest position that any of the patterns resumes from; one without a position starts now.
        let after = wanted.iter().filter_map(|w| w.after).min();
        self.counters.subscriptions.add(wanted.len() as u64);
        self.scopes.entry(scope.clone()).or_default().begin(joiner);
        self.requests.push(FromShard::Join { joiner: Joiner(joiner), scope: scope.clone(), after });
        let (held, announced) = (Held::default(), Announced::Nothing);
        self.joins.insert(joiner, Join { slot, scope, wanted, correlation_id, held, announced });
    }

    /// A page of history, the last one unless it says `more`.
    pub(crate) fn joined(&mut self, joiner: Joiner, joined: Joined) {
        let Some(join) = self.joins.remove(&joiner.0) else { return };
        self.catch_up(joiner, join, &joined);
        // After a storm the table would keep the room that thousands took at once.
        if self.joins.is_empty() {
            self.joins.shrink_to(JOINS_KEPT);
        }
    }

    fn catch_up(&mut self, joiner: Joiner, mut join: Join, joined: &Joined) {
        let lane = self.rules.lane(&join.scope);
        let slot = join.slot;
        debug_assert_eq!(joined.upto.is_none(), joined.start == Start::Degraded, "only an interim answer has no end");
        self.announce(&mut join, joined);
        for message in &joined.messages {
            if join.wants(message.topic(), message.position) && !self.covered(&join, message) {
                // A page is bounded by itself and asked for when there is room: it always fits.
                let _ = self.push(slot, lane, message.frame.clone(), usize::MAX);
            }
        }
        if self.connections[slot as usize].life != Life::Open {
            return; // It could not take what it asked for, and has left its scopes.
        }
        let Some(upto) = joined.upto else {
            self.joins.insert(joiner.0, join); // An interim answer: the broker cannot be asked now.
            return;
        };
        let held = std::mem::take(&mut join.held);
        if joined.more || held.overflowed {
            join.held = held.or_afresh();
            return self.ask_on(joiner, join, upto);
        }
        for message in held.messages.iter().filter(|m| m.position.is_none_or(|position| position > upto)) {
            if !self.covered(&join, message) {
                self.queue(slot, lane, message.frame.clone());
            }
        }
        if self.connections[slot as usize].life == Life::Open {
            self.go_live(joiner, &join, upto);
        }
    }

    /// Asks for what is behind `upto`: now, or when the last page has left, so that a slow client reads history no
    /// faster than it can.
    fn ask_on(&mut self, joiner: Joiner, join: Join, upto: Position) {
        let waits = self.connections[join.slot as usize].outbox.bytes() > replay_pause_bytes(&self.rules);
        let request = FromShard::Join { joiner, scope: join.scope.clone(), after: Some(upto) };
        match waits {
            true => self.paused.push((join.slot, request)),
            false => self.requests.push(request),
        }
        self.joins.insert(joiner.0, join);
    }

    /// From here on the patterns hear the scope directly.
    fn go_live(&mut self, joiner: Joiner, join: &Join, upto: Position) {
        let members = self.scopes.entry(join.scope.clone()).or_default();
        members.keep_joining(|other| other != joiner.0);
        members.top = members.top.max(upto);
        let connection = &mut self.connections[join.slot as usize];
        for wanted in &join.wanted {
            members.add(&wanted.filter, join.slot);
            let mine =
                |s: &&mut Subscription| !s.live && s.pattern.scope == join.scope && s.pattern.filter == wanted.filter;
            if let Some(subscription) = connection.session.subscriptions.iter_mut().find(mine) {
                subscription.live = true;
                // With a position asked for, everything behind that one has been delivered by this subscription.
                subscription.since = wanted.after.unwrap_or(upto);
                subscription.told = upto;
            }
        }
    }

    /// Tells the client that its subscriptions stand and from where, and what it has missed for good.
    fn announce(&mut self, join: &mut Join, joined: &Joined) {
        let lane = self.rules.lane(&join.scope);
        let degraded = joined.start == Start::Degraded;
        let told = if degraded { Announced::Degraded } else { Announced::Subscribed };
        let news = std::mem::replace(&mut join.announced, told) != told;
        for wanted in &join.wanted {
            let pattern = wire::Pattern { scope: join.scope.clone(), filter: wanted.filter.clone() };
            let channel = pattern.to_string();
            let gap = match joined.start {
                Start::Gap(gap) if wanted.after.is_some() => Some(gap),
                Start::Gap(_) | Start::Fresh | Start::Resumed | Start::Degraded => None,
            };
            let resumed = wanted.after.is_some() && joined.start == Start::Resumed;
            if news {
                let position = if resumed { wanted.after } else { joined.upto };
                let frame = ServerFrame::Subscribed {
                    channel: &channel,
                    position,
                    resumed,
                    degraded,
                    correlation_id: join.correlation_id.as_deref(),
                };
                self.queue(join.slot, lane, frame.encode());
            }
            if let Some(gap) = gap {
                self.counters.gaps.add(1);
                self.queue(join.slot, lane, gap_frame(&channel, Gap { after: wanted.after, ..gap }));
            }
        }
    }

    /// Whether another, live subscription of the same client has delivered this message or will.
    fn covered(&self, join: &Join, message: &Outgoing) -> bool {
        let covers = |s: &Subscription| {
            s.live
                && message.position.is_none_or(|position| position > s.since)
                && s.pattern.scope == join.scope
                && s.pattern.filter.matches(message.topic())
        };
        self.connections[join.slot as usize].session.subscriptions.iter().any(covers)
    }

    /// Asks for the next pages of replays that waited for this client's outbox to empty.
    pub(crate) fn resume_replays(&mut self, slot: Slot) {
        if self.paused.is_empty() {
            return;
        }
        let ready = self.paused.extract_if(.., |(waiting, _)| *waiting == slot);
        self.requests.extend(ready.map(|(_, request)| request));
    }

    /// Ends one subscription.
    pub(super) fn leave(&mut self, slot: Slot, subscription: &Subscription) {
        let Subscription { pattern, live, .. } = subscription;
        self.counters.subscriptions.sub(1);
        let Some(members) = self.scopes.get_mut(&pattern.scope) else { return };
        if *live {
            members.remove(&pattern.filter, slot);
        } else {
            // It is part of a join that still catches up.
            let joins = &mut self.joins;
            members.keep_joining(|joiner| {
                // One that is in nobody's hands belongs to this client, which is being closed while it catches up.
                let Some(join) = joins.get_mut(&joiner) else { return false };
                if join.slot != slot {
                    return true;
                }
                join.wanted.retain(|wanted| wanted.filter != pattern.filter);
                let empty = join.wanted.is_empty();
                if empty {
                    joins.remove(&joiner);
                }
                !empty
            });
        }
        if members.is_empty() {
            self.scopes.remove(&pattern.scope);
            self.requests.push(FromShard::Leave { scope: pattern.scope.clone() });
        }
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn leave_all(&mut self, slot: Slot) {
        let subscriptions = std::mem::take(&mut self.connections[slot as usize].session.subscriptions);
        for subscription in &subscriptions {
            self.leave(slot, subscription);
        }
        self.paused.retain(|(waiting, _)| *waiting != slot);
    }
}

pub(super) fn gap_frame(channel: &str, gap: Gap) -> Encoded {
    let Gap { after, upto, reason, certain } = gap;
    ServerFrame::Gap { channel, after, upto: Some(upto), reason, certain }.encode()
}
