//! PURE. Records of sessions: a connection leaves one when it ends, and a new connection restores it.

use std::time::Instant;

use connection_registry::{RestoreRequest, RestoreResult, SessionRecord};
use wire::{Pattern, Timestamp};

use super::*;
use crate::shard::delivery_confirmation::{PatternPositions, SubscriptionAtEnd};

impl Shard {
    /// The client wants a record of its session, and has not asked for an earlier one.
    pub(super) fn keep_record(&mut self, slot: Slot) {
        let session = self.connections[slot].session.id();
        self.confirmed_of(slot).keep(session);
        self.identified.push(slot); // So that its arrival time is set.
    }

    fn confirmed_of(&mut self, slot: Slot) -> &mut DeliveryConfirmation {
        let connection = &mut self.connections[slot];
        connection.confirmation.get_or_insert_with(|| Box::new(DeliveryConfirmation::new(connection.session.id())))
    }

    /// Starts to restore the session. Without Redis the record cannot be read.
    pub(super) fn begin_restore(&mut self, slot: Slot) {
        let session = &self.connections[slot].session;
        let (id, holds) = (session.id(), !session.subscriptions.is_empty());
        self.confirmed_of(slot).ask(id, holds);
        match self.is_degraded {
            true => self.give_up_restoring(slot),
            false => self.identified.push(slot),
        }
    }

    pub(crate) fn give_up_restoring(&mut self, slot: Slot) {
        let mut effects = Vec::new();
        self.connections[slot].session.give_up_restoring(&mut effects);
        self.carry_out(slot, &mut effects);
    }

    /// A connection has been registered, or has asked for its record.
    pub(crate) fn arrived(&mut self, slot: Slot, since: Timestamp, arrival: Instant) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.session.restore_asked();
        if let Some(confirmation) = &mut connection.confirmation {
            confirmation.arrival = Some((since, arrival));
        }
    }

    /// Handles the answer to a restore request. Returns the record if the connection that asked no longer waits for it,
    /// or its token has expired.
    pub(crate) fn restored(
        &mut self,
        ask: &RestoreRequest,
        restored: RestoreResult,
        now: Now,
    ) -> Option<SessionRecord> {
        let waits = |connection: &Connection| {
            let (session, confirmation) = (&connection.session, connection.confirmation.as_ref());
            let arrival = confirmation.and_then(|confirmation| confirmation.arrival).map(|(_, arrival)| arrival);
            let is_asker = session.id() == ask.session && arrival == Some(ask.arrival);
            is_asker && connection.state == ConnectionState::Open && session.restoring().is_some_and(|(_, asked)| asked)
        };
        let slot = self.connections.iter().find(|(_, connection)| waits(connection)).map(|(slot, _)| slot);
        let record = match (slot, restored) {
            (Some(slot), RestoreResult::Replaced) => {
                self.close(slot, Close::Replaced);
                return None;
            }
            (Some(_), RestoreResult::Found(record)) => Some(record),
            (Some(_), RestoreResult::Nothing) => None,
            (None, RestoreResult::Found(record)) => return Some(record),
            (None, RestoreResult::Nothing | RestoreResult::Replaced) => return None,
        };
        let slot = slot?;
        let mut effects = Vec::new();
        if self.connections[slot].session.end_expired_restore(now, &mut effects) {
            self.carry_out(slot, &mut effects);
            return record;
        }
        self.confirmed_of(slot).answered(record.is_some());
        let rules = Arc::clone(&self.rules);
        self.connections[slot].session.restored(record, &rules, &mut effects);
        self.carry_out(slot, &mut effects);
        None
    }

    /// A ping is about to be queued. If nothing waits before it, its pong proves what the client has read.
    pub(super) fn note_ping(&mut self, slot: Slot) {
        let connection = &self.connections[slot];
        if connection.confirmation.is_none() {
            return;
        }
        let mut sent = PatternPositions::new();
        if connection.outbox.is_empty() && !connection.is_conflating {
            let subscriptions = &connection.session.subscriptions;
            sent.extend(subscriptions.iter().filter_map(|s| Some((s.pattern.clone(), self.queued_upto(slot, s)?))));
        }
        if let Some(confirmation) = &mut self.connections[slot].confirmation {
            confirmation.ping(sent);
        }
    }

    /// A connection starts to close. Notes its subscriptions before they end. `code` is the code of our close frame,
    /// which is written after everything queued; it is absent if we send none.
    pub(super) fn note_end(&mut self, slot: Slot, code: Option<u16>) {
        let connection = &mut self.connections[slot];
        let Some(mut confirmation) = connection.confirmation.take() else { return };
        if !confirmation.knows(connection.session.id()) {
            return; // Another record has the subscriptions of the session.
        }
        confirmation.end(code, || self.held_at_end(slot));
        self.connections[slot].confirmation = Some(confirmation);
    }

    /// The connection has ended for its client.
    pub(super) fn leave_record(&mut self, slot: Slot, answer: Option<u16>) {
        let connection = &mut self.connections[slot];
        let (Some(confirmation), Some(identity)) = (connection.confirmation.take(), connection.session.identity())
        else {
            return;
        };
        let (tenant, user) = (identity.tenant.clone(), identity.user.clone());
        let (session, Some((since, arrival))) = (connection.session.id(), confirmation.arrival) else { return };
        let Some(record) = confirmation.record(answer) else { return };
        self.records.add(slot, ClosedSessionRecord { session, tenant, user, since, arrival, record });
    }

    /// The records that sessions have left since the last call.
    pub(crate) fn take_left(&mut self) -> Vec<(Slot, ClosedSessionRecord)> {
        self.records.take()
    }

    fn held_at_end(&self, slot: Slot) -> Vec<SubscriptionAtEnd> {
        let Connection { session, is_conflating, .. } = &self.connections[slot];
        let held = |subscription: &Subscription| {
            let asked = || self.wanted(slot, &subscription.pattern).and_then(|wanted| wanted.after);
            let is_announced = subscription.began != Position::default();
            SubscriptionAtEnd {
                pattern: subscription.pattern.clone(),
                begins: if is_announced { Some(subscription.began) } else { asked() },
                queued: self.queued_upto(slot, subscription),
                is_known: !is_conflating,
            }
        };
        session.subscriptions.iter().map(held).collect()
    }

    /// Everything of a subscription up to this position has been queued. Before its announcement that is the position
    /// it asked to begin at.
    fn queued_upto(&self, slot: Slot, subscription: &Subscription) -> Option<Position> {
        if subscription.live {
            return self.subscriptions.top(&subscription.pattern.scope);
        }
        self.wanted(slot, &subscription.pattern).and_then(|wanted| wanted.after)
    }

    /// The read progress of a subscription that is not live.
    fn wanted(&self, slot: Slot, pattern: &Pattern) -> Option<&Wanted> {
        let own = self.subscriptions.joins_in(&pattern.scope).filter(|(_, join)| join.slot == slot);
        own.flat_map(|(_, join)| &join.wanted).find(|wanted| wanted.filter == pattern.filter)
    }
}
