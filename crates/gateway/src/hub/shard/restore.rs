//! PURE. Records of sessions: what a connection leaves when it ends, and what it brings back when it begins.

use std::time::Instant;

use connection_registry::{Ask, Restored, SessionRecord};
use wire::{Pattern, Timestamp};

use super::*;
use crate::hub::confirmed::{Held as HeldAtEnd, Places};

impl Shard {
    /// The client wants a record of its session, and has not asked for one.
    pub(super) fn keep_record(&mut self, slot: Slot) {
        let session = self.connections[slot as usize].session.id();
        self.confirmed_of(slot).keep(session);
        self.identified.push(slot); // So that it is known since when it is there.
    }

    fn confirmed_of(&mut self, slot: Slot) -> &mut Confirmed {
        let connection = &mut self.connections[slot as usize];
        connection.confirmed.get_or_insert_with(|| Box::new(Confirmed::new(connection.session.id())))
    }

    /// Without Redis nobody knows what the session held.
    pub(super) fn begin_restore(&mut self, slot: Slot) {
        let session = &self.connections[slot as usize].session;
        let (id, holds) = (session.id(), !session.subscriptions.is_empty());
        self.confirmed_of(slot).ask(id, holds);
        match self.is_degraded {
            true => self.give_up_restoring(slot),
            false => self.identified.push(slot),
        }
    }

    pub(crate) fn give_up_restoring(&mut self, slot: Slot) {
        let mut effects = Vec::new();
        self.connections[slot as usize].session.give_up_restoring(&mut effects);
        self.carry_out(slot, &mut effects);
    }

    /// A connection has taken its place, or has asked for its record.
    pub(crate) fn came(&mut self, slot: Slot, since: Timestamp, came: Instant) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.session.restore_asked();
        if let Some(confirmed) = &mut connection.confirmed {
            confirmed.came = Some((since, came));
        }
    }

    /// What became of a question. Gives the record back if the connection that asked is not there any more.
    pub(crate) fn restored(&mut self, ask: &Ask, restored: Restored) -> Option<SessionRecord> {
        let waits = |connection: &Connection| {
            let (session, confirmed) = (&connection.session, connection.confirmed.as_ref());
            let came = confirmed.and_then(|confirmed| confirmed.came).map(|(_, came)| came);
            let is_asker = session.id() == ask.session && came == Some(ask.came);
            is_asker && connection.life == Life::Open && session.restoring().is_some_and(|(_, asked)| asked)
        };
        let slot = self.connections.iter().find(|(_, connection)| waits(connection)).map(|(slot, _)| slot as Slot);
        let record = match (slot, restored) {
            (Some(slot), Restored::Replaced) => {
                self.close(slot, Close::Replaced);
                return None;
            }
            (Some(_), Restored::Found(record)) => Some(record),
            (Some(_), Restored::Nothing) => None,
            (None, Restored::Found(record)) => return Some(record),
            (None, Restored::Nothing | Restored::Replaced) => return None,
        };
        let slot = slot?;
        self.confirmed_of(slot).answered(record.is_some());
        let rules = Arc::clone(&self.rules);
        let mut effects = Vec::new();
        self.connections[slot as usize].session.restored(record, &rules, &mut effects);
        self.carry_out(slot, &mut effects);
        None
    }

    /// A ping is about to be queued. With nothing before it that has yet to be written, its answer tells what has been
    /// read.
    pub(super) fn note_ping(&mut self, slot: Slot) {
        let connection = &self.connections[slot as usize];
        if connection.confirmed.is_none() {
            return;
        }
        let mut sent = Places::new();
        if connection.outbox.is_empty() && !connection.keeps_newest {
            let subscriptions = &connection.session.subscriptions;
            sent.extend(subscriptions.iter().filter_map(|s| Some((s.pattern.clone(), self.queued_upto(slot, s)?))));
        }
        if let Some(confirmed) = &mut self.connections[slot as usize].confirmed {
            confirmed.ping(sent);
        }
    }

    /// A connection begins to end: notes what it holds, before it is let go of. With our close frame of this code, which
    /// goes out behind all that is queued, or without one.
    pub(super) fn note_end(&mut self, slot: Slot, code: Option<u16>) {
        let connection = &mut self.connections[slot as usize];
        let Some(mut confirmed) = connection.confirmed.take() else { return };
        if !confirmed.knows(connection.session.id()) {
            return; // What the session holds is in another one's record.
        }
        confirmed.end(code, || self.held_at_end(slot));
        self.connections[slot as usize].confirmed = Some(confirmed);
    }

    /// A connection has ended, as far as its client is concerned.
    pub(super) fn leave_record(&mut self, slot: Slot, answer: Option<u16>) {
        let connection = &mut self.connections[slot as usize];
        let (Some(confirmed), Some(identity)) = (connection.confirmed.take(), connection.session.identity()) else {
            return;
        };
        let (tenant, user) = (identity.tenant.clone(), identity.user.clone());
        let (session, Some((since, came))) = (connection.session.id(), confirmed.came) else { return };
        let Some(record) = confirmed.record(answer) else { return };
        self.left.push((slot, LeftRecord { session, tenant, user, since, came, record }));
    }

    /// What sessions have left since the last call.
    pub(crate) fn take_left(&mut self) -> Vec<(Slot, LeftRecord)> {
        std::mem::take(&mut self.left)
    }

    fn held_at_end(&self, slot: Slot) -> Vec<HeldAtEnd> {
        let Connection { session, keeps_newest, .. } = &self.connections[slot as usize];
        let held = |subscription: &Subscription| {
            let asked = || self.wanted(slot, &subscription.pattern).and_then(|wanted| wanted.after);
            let is_announced = subscription.began != Position::default();
            HeldAtEnd {
                pattern: subscription.pattern.clone(),
                begins: if is_announced { Some(subscription.began) } else { asked() },
                queued: self.queued_upto(slot, subscription),
                is_known: !keeps_newest,
            }
        };
        session.subscriptions.iter().map(held).collect()
    }

    /// Everything of a subscription up to here has been queued. While it is not announced, that is where it was asked to
    /// begin.
    fn queued_upto(&self, slot: Slot, subscription: &Subscription) -> Option<Position> {
        if subscription.live {
            return self.scopes.get(&subscription.pattern.scope).map(|members| members.top);
        }
        self.wanted(slot, &subscription.pattern).and_then(|wanted| wanted.after)
    }

    /// How far a subscription that is not live has been read.
    fn wanted(&self, slot: Slot, pattern: &Pattern) -> Option<&Wanted> {
        let members = self.scopes.get(&pattern.scope)?;
        let joins = members.joining().filter_map(|joiner| self.joins.get(&joiner)).filter(|join| join.slot == slot);
        joins.flat_map(|join| &join.wanted).find(|wanted| wanted.filter == pattern.filter)
    }
}
