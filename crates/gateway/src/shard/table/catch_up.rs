//! PURE. Starting and ending subscriptions. A subscription becomes live without a lost or a doubled message.

use message_router::{OnSlow, Start};

use std::borrow::Cow;

use super::*;

impl Shard {
    /// Starts to catch up. From now on live messages of the scope are buffered for this client.
    pub(super) fn join(&mut self, slot: Slot, request: JoinRequest) {
        let JoinRequest { scope, wanted, correlation_id } = request;
        let joiner = self.next_number();
        self.counters.subscriptions.add(wanted.len() as u64);
        let mut join = Join { correlation_id, ..Join::new(slot, scope, wanted) };
        if self.is_preceded(joiner, &join) {
            if self.is_degraded {
                let (start, lost, messages) = (Start::Degraded, Vec::new(), Vec::new());
                let interim = CatchUpPage { start, lost, messages, upto: None, more: false };
                self.announce(&mut join, &interim);
            }
            // Older subscriptions come first. Otherwise their messages would be queued behind newer ones.
            return self.wait(joiner, join);
        }
        self.subscriptions.enter(&join.scope).begin(joiner);
        self.ask(joiner, join);
    }

    /// Whether earlier subscriptions of this client in the same scope are still catching up.
    pub(super) fn is_preceded(&self, joiner: u64, new: &Join) -> bool {
        let subscriptions = &self.connections[new.slot].session.subscriptions;
        let behind = subscriptions.iter().filter(|s| !s.live && s.pattern.scope == new.scope).count();
        if behind == new.wanted.len() {
            return false; // The common case. It does not look at every join of the scope.
        }
        let precedes = |other: u64| {
            self.subscriptions.join(other).is_some_and(|join| {
                join.slot == new.slot && join.reads_history() && (other < joiner || join.is_announced())
            })
        };
        self.subscriptions.scope(&new.scope).is_some_and(|members| members.joining().any(precedes))
    }

    /// Handles a page of history. It is the last page unless `more` is set.
    pub(crate) fn joined(&mut self, joiner: Joiner, joined: CatchUpPage) {
        let Some(join) = self.subscriptions.take_join(joiner.0) else { return };
        self.catch_up(joiner.0, join, &joined);
        self.subscriptions.shrink_joins();
    }

    fn catch_up(&mut self, joiner: u64, mut join: Join, joined: &CatchUpPage) {
        let slot = join.slot;
        debug_assert_eq!(joined.upto.is_none(), joined.start == Start::Degraded, "only an interim answer has no end");
        if joined.upto.is_some() && self.connections[slot].outbox.bytes() > self.rules.limits.outbox_bytes_max {
            return self.wait(joiner, join); // The page is read again when there is room.
        }
        if matches!(joined.start, Start::Gap(_)) {
            // This gap covers the pending ones. Their positions may belong to a lost history and be above all later
            // ones.
            join.pending_gaps.clear();
        }
        self.announce(&mut join, joined);
        for message in &joined.messages {
            // A page is bounded, and is requested only when there is room. So it always fits.
            let _ = self.queue_for_join(&mut join, message, usize::MAX);
        }
        if self.connections[slot].state != ConnectionState::Open {
            return; // The client was closed for lack of room, and its subscriptions have ended.
        }
        let Some(upto) = joined.upto else {
            self.subscriptions.put_join(joiner, join); // An interim answer: the broker cannot be reached now.
            return;
        };
        self.send_pending_gaps(&mut join, upto);
        join.move_to(upto);
        let buffer = std::mem::take(&mut join.buffer);
        if joined.more || buffer.overflowed {
            join.buffer = buffer.or_restart();
            return self.ask_on(joiner, join);
        }
        let bytes_max = self.connections.bytes_max(slot);
        for message in &buffer.messages {
            if self.queue_for_join(&mut join, message, bytes_max) == Queued::Full {
                match self.rules.on_slow(&join.scope) {
                    OnSlow::CatchUp => return self.wait(joiner, join),
                    // There are few of these messages, and they cannot be read again later.
                    OnSlow::Latest => _ = self.queue_for_join(&mut join, message, usize::MAX),
                    OnSlow::Close => {
                        self.subscriptions.put_join(joiner, join);
                        return self.close_slow(slot);
                    }
                }
            }
        }
        self.send_pending_gaps(&mut join, Position::new(u64::MAX, u64::MAX));
        if self.connections[slot].state == ConnectionState::Open {
            self.go_live(joiner, &join);
        }
    }

    /// Queues a message for those patterns of the join that have not received it. Pending gaps before it go first.
    fn queue_for_join(&mut self, join: &mut Join, message: &Outgoing, bytes_max: usize) -> Queued {
        if let Some(position) = message.position()
            && !join.pending_gaps.is_empty()
        {
            self.send_pending_gaps(join, Position::new(position.generation, position.offset.saturating_sub(1)));
        }
        if join.wants(message.topic(), message.position()) && !self.covered(join, message) {
            let lane = self.rules.lane(&join.scope);
            if self.connections.push(join.slot, lane, Outbound::Message(message.clone()), bytes_max) == Queued::Full {
                return Queued::Full;
            }
        }
        if let Some(position) = message.position() {
            join.move_to(position);
        }
        Queued::Yes
    }

    /// Sends the pending gaps that begin at or before `position`.
    fn send_pending_gaps(&mut self, join: &mut Join, position: Position) {
        let lane = self.rules.lane(&join.scope);
        let due = join.pending_gaps.iter().take_while(|gap| gap.after <= Some(position)).count();
        for gap in join.pending_gaps.drain(..due).collect::<Vec<_>>() {
            self.raise_floor(join.slot, &join.scope, gap.upto.max(gap.after.unwrap_or_default()));
            for wanted in join.wanted.iter().filter(|wanted| wanted.after < Some(gap.upto)) {
                self.counters.gaps.add(1);
                let after = wanted.after.min(gap.after.or(wanted.after));
                let channel = wire::Pattern { scope: join.scope.clone(), filter: wanted.filter.clone() }.to_string();
                self.queue(join.slot, lane, &gap_reply(channel, Gap { after, ..gap }));
            }
            join.move_to(gap.upto);
        }
    }

    /// Requests the page after the last one: now, or when the last one has been written. So a slow client causes reads
    /// of history only as fast as it reads.
    fn ask_on(&mut self, joiner: u64, join: Join) {
        if self.connections[join.slot].state != ConnectionState::Open {
            return;
        }
        self.note_behind(join.slot, joiner);
        match self.connections[join.slot].outbox.bytes() > self.rules.limits.replay_pause_bytes() {
            true => self.wait(joiner, join),
            false => self.ask(joiner, join),
        }
    }

    /// Requests the next page.
    pub(super) fn ask(&mut self, joiner: u64, mut join: Join) {
        if self.connections[join.slot].state != ConnectionState::Open {
            return; // The connection was closed in the meantime, and its subscriptions have ended.
        }
        let (scope, after) = (join.scope.clone(), join.after());
        (join.stage, join.asked_with_position) = (JoinStage::Reading, after.lowest().is_some());
        self.requests.push(PumpRequest::Join { shard: self.index, joiner: Joiner(joiner), scope, after });
        self.subscriptions.put_join(joiner, join);
    }

    /// Makes the patterns live: from now on they receive the messages of the scope directly.
    fn go_live(&mut self, joiner: u64, join: &Join) {
        let members = self.subscriptions.enter(&join.scope);
        members.end(joiner);
        members.top = members.top.max(join.after().lowest().unwrap_or_default());
        let top = members.top;
        let subscriptions = &mut self.connections[join.slot].session.subscriptions;
        // Messages that other subscriptions have received in the meantime must not be read again for these.
        let mixed = subscriptions.iter().any(|s| s.live && s.pattern.scope == join.scope);
        for wanted in &join.wanted {
            members.add(&wanted.filter, join.slot);
            if let Some(subscription) = waiting_of(subscriptions, &join.scope, &wanted.filter) {
                subscription.live = true;
                if mixed {
                    subscription.floor = top;
                }
            }
        }
        if self.end_behind(join.slot, joiner) {
            self.counters.slow_catch_ups.add(1);
        }
    }

    /// Announces the subscriptions and their positions to the client, and the messages that are lost for good.
    fn announce(&mut self, join: &mut Join, joined: &CatchUpPage) {
        let lane = self.rules.lane(&join.scope);
        let degraded = joined.start == Start::Degraded;
        let announced_now = if degraded { Announced::Degraded } else { Announced::Subscribed };
        // After the announcement only a gap is reported: the subscription continues after it.
        let is_change = !join.is_announced() && std::mem::replace(&mut join.announced, announced_now) != announced_now;
        if is_change {
            self.track(join.slot, &join.scope);
        }
        for wanted in &mut join.wanted {
            let pattern = wire::Pattern { scope: join.scope.clone(), filter: wanted.filter.clone() };
            let channel = pattern.to_string();
            let gap = match joined.start {
                // A fresh subscription can miss messages too, but only after its first page.
                Start::Gap(gap) if wanted.after.is_some() || !is_change => Some(gap),
                Start::Gap(_) | Start::Fresh | Start::Resumed | Start::Degraded => None,
            };
            let own = joined.lost.iter().find(|gap| wanted.after.is_some() && gap.after == wanted.after);
            let gap = own.copied().or(gap);
            let resumed = wanted.after.is_some() && joined.start == Start::Resumed && gap.is_none();
            // The position where the subscription continues, unless it resumes.
            let begins = gap.map(|gap| gap.upto).or(joined.upto);
            if is_change {
                let position = if resumed { wanted.after } else { begins };
                let reply = ServerFrame::Subscribed {
                    channel: channel.as_str().into(),
                    position,
                    resumed,
                    degraded,
                    correlation_id: join.correlation_id.as_deref().map(Cow::Borrowed),
                };
                self.queue(join.slot, lane, &reply);
            }
            if let Some(gap) = gap {
                self.counters.gaps.add(1);
                self.queue(join.slot, lane, &gap_reply(channel, Gap { after: wanted.after, ..gap }));
            }
            let (Some(begins), Some(upto)) = (begins, joined.upto) else { continue };
            let subscriptions = &mut self.connections[join.slot].session.subscriptions;
            if let Some(subscription) = waiting_of(subscriptions, &join.scope, &wanted.filter) {
                if is_change {
                    subscription.began = wanted.after.unwrap_or(begins);
                    // A resumed subscription delivers everything after the position that it resumed from. A page that
                    // the client does not read in time may be read again, but not below the highest floor of its
                    // subscriptions in this scope.
                    subscription.since = if resumed { subscription.began } else { begins };
                    (subscription.position_sent, subscription.floor) = (upto, subscription.since);
                }
                if gap.is_some() {
                    subscription.floor = subscription.floor.max(begins);
                }
            }
            wanted.after = if gap.is_some() { Some(begins) } else { wanted.after.or(Some(begins)) };
        }
    }

    /// Whether another subscription of the same client has delivered this message, or will deliver it.
    fn covered(&self, join: &Join, message: &Outgoing) -> bool {
        let covers = |s: &Subscription| {
            if s.pattern.scope != join.scope || !s.pattern.filter.matches(message.topic()) {
                return false;
            }
            let Some(position) = message.position() else { return s.live };
            // A subscription that fell behind has delivered the messages up to this position.
            let upto = || join.wanted.iter().find(|w| w.filter == s.pattern.filter).and_then(|w| w.after);
            position > s.since && (s.live || upto().is_some_and(|upto| position <= upto))
        };
        self.connections[join.slot].session.subscriptions.iter().any(covers)
    }

    /// Ends one subscription, live or not.
    pub(super) fn leave(&mut self, slot: Slot, subscription: &Subscription) {
        let Subscription { pattern, live, .. } = subscription;
        self.counters.subscriptions.sub(1);
        self.untrack(slot, &pattern.scope);
        let Some(members) = self.subscriptions.scope_mut(&pattern.scope) else { return };
        if *live {
            members.remove(&pattern.filter, slot);
            let top = members.top;
            self.prune_conflated(slot, &pattern.scope);
            // Messages that only this subscription wanted are not read again for the others. They would come behind
            // newer ones.
            self.raise_floor(slot, &pattern.scope, top);
        } else {
            self.leave_join(slot, pattern);
        }
        if self.subscriptions.end_if_empty(&pattern.scope) {
            self.requests.push(PumpRequest::Leave { shard: self.index, scope: pattern.scope.clone() });
        }
    }

    /// Ends a subscription that is not live, and so is part of a join.
    fn leave_join(&mut self, slot: Slot, pattern: &wire::Pattern) {
        let known: &[u64] = self.slow_clients.get(slot).map_or(&[], |slow_client| &slow_client.joins);
        if let Some(joiner) = self.subscriptions.leave_join(slot, pattern, known) {
            self.end_behind(slot, joiner);
        }
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn leave_all(&mut self, slot: Slot) {
        let subscriptions = std::mem::take(&mut self.connections[slot].session.subscriptions);
        for subscription in &subscriptions {
            self.leave(slot, subscription);
        }
        self.forget_behind(slot);
    }
}

/// The subscription with this filter that is not live, if there is one.
pub(super) fn waiting_of<'s>(
    subscriptions: &'s mut [Subscription],
    scope: &Scope,
    filter: &wire::Filter,
) -> Option<&'s mut Subscription> {
    subscriptions.iter_mut().find(|s| !s.live && s.pattern.scope == *scope && s.pattern.filter == *filter)
}

pub(super) fn gap_reply(channel: String, gap: Gap) -> ServerFrame<'static> {
    let Gap { after, upto, reason, certain } = gap;
    ServerFrame::Gap { channel: channel.into(), after, upto: Some(upto), reason, certain }
}
