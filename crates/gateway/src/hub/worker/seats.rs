//! Who is connected on this shard, as the directory knows it: sessions take their places, leave records, and ask for them.

use std::time::Instant;

use connection_registry::{Ask, Closing, Row, SeatNumber, Why};
use message_router::ShardIndex;
use wire::{Close, ErrorCode, Timestamp};

use super::Worker;
use crate::hub::ToShard;
use crate::hub::members::Slot;
use crate::hub::shard::Shard;
use crate::token::Identity;

impl Worker {
    /// Hands on what sessions have left. From then on they are not connected here.
    pub(super) fn leave_records(&self) {
        for (slot, left) in self.shard.borrow_mut().take_left() {
            let session = left.session;
            self.directory.restores().leave(left);
            let mut ends = self.ends.borrow_mut();
            let Some(Some(end)) = ends.get_mut(slot as usize) else { continue };
            if let Some(seat) = end.seat.take_if(|seat| seat.session() == session) {
                self.directory.disconnect(seat);
            }
        }
    }

    /// Closes a session that the registry says must go, unless its client has come back meanwhile. A connection that has
    /// no seat yet is not the one that was meant, but an operator means them all.
    pub(super) fn dismiss(&self, closing: Closing, upto: SeatNumber) {
        let (mut shard, now) = (self.shard.borrow_mut(), self.clock.now());
        let ends = self.ends.borrow();
        let is_meant = |slot: Slot| {
            let end = ends.get(slot as usize).and_then(Option::as_ref);
            let seat = end.and_then(|end| end.seat.as_ref()).filter(|seat| seat.session() == closing.session);
            seat.map_or(closing.why == Why::Kicked, |seat| seat.number() <= upto)
        };
        for slot in shard.dismiss(closing, is_meant) {
            if let Some(at_ms) = shard.wake_sooner(slot, now) {
                self.wheel.borrow_mut().schedule(slot, at_ms);
            }
        }
    }

    /// Lists the sessions that have opened. Gives the connections that were closed for it.
    pub(super) fn seat_identified(&self, shard: &mut Shard) -> Vec<Slot> {
        let (mut replaced, mut closed) = (Vec::new(), Vec::new());
        let identified = shard.take_identified();
        for slot in identified.iter().copied() {
            let Some((session, identity)) = shard.holder(slot) else { continue };
            let (session, restoring) = (session.id(), session.restoring());
            if restoring.is_some_and(|(_, is_asked)| is_asked) {
                continue;
            }
            let mut ends = self.ends.borrow_mut();
            let Some(Some(end)) = ends.get_mut(slot as usize) else { continue };
            if restoring.is_none() && end.seat.as_ref().is_some_and(|seat| seat.session() == session) {
                continue;
            }
            if let Some(seat) = end.seat.take() {
                self.directory.disconnect(seat); // It goes on with an earlier session.
            }
            let Identity { tenant, user, .. } = identity.clone();
            if self.directory.get(session).is_some_and(|row| (&row.tenant, &row.user) != (&tenant, &user)) {
                closed.push(slot);
                continue;
            }
            // It takes its place with the time at which it came: a later one may have come while it waited.
            let earlier = end.came.take().filter(|_| restoring.is_none());
            let now = || (Timestamp(self.clock.now().unix_ms), Instant::now());
            let (connected_at, came) = earlier.map_or_else(now, |earlier| *earlier);
            // At once: a `hello` may have named the connection twice, and two questions would compete.
            shard.came(slot, connected_at, came);
            if restoring.is_some() {
                end.came = Some(Box::new((connected_at, came)));
                // It takes its place when it has what the session held, or knows that there is nothing.
                let older = self.directory.seat(session);
                let (shard, awaited) = (u16::from(self.index.0), older.is_some());
                self.directory.restores().ask(Ask { session, tenant, user, since: connected_at, came, shard, awaited });
                replaced.extend(older.map(|(number, row)| (slot, session, number, row.shard)));
                continue;
            }
            let row = Row { tenant, user, shard: u16::from(self.index.0), connected_at };
            let (seat, before) = self.directory.take_over(session, row, came);
            replaced.extend(before.map(|row| (slot, session, seat.number(), row.shard)));
            end.seat = Some(seat);
        }
        for slot in &closed {
            let message = "this session_id belongs to somebody else";
            shard.refuse(*slot, ErrorCode::WrongIdentity, message, Close::Unauthenticated);
        }
        // An older socket of the same session is of no use to anybody.
        for (slot, session, upto, of) in replaced {
            if of == u16::from(self.index.0) {
                closed.extend(shard.dismiss_others(session, slot));
            } else {
                let inbox = &self.hub.shard(ShardIndex(of as u8)).inbox;
                inbox.push(ToShard::Dismiss(Closing { session, why: Why::Replaced }, upto), 0);
            }
        }
        for slot in identified.into_iter().chain(closed.iter().copied()) {
            if let Some(at_ms) = shard.wake_sooner(slot, self.clock.now()) {
                self.wheel.borrow_mut().schedule(slot, at_ms);
            }
        }
        closed
    }
}
