//! PURE. Who is connected on one shard, as the directory knows it: sessions take their places, leave records, and ask for
//! them.

use std::sync::Arc;
use std::time::Instant;

use connection_registry::{Ask, Closing, Directory, LeftRecord, Restored, Row, Seat, SeatNumber, Why};
use message_router::ShardIndex;
use wire::{Close, Timestamp};

use crate::hub::ToShard;
use crate::hub::members::Slot;
use crate::hub::shard::{Shard, growth, is_loose};
use crate::rules::Now;
use crate::token::Identity;

/// The places of one shard's connections.
#[derive(Debug)]
pub(crate) struct Seats {
    index: ShardIndex,
    directory: Arc<Directory>,
    /// By slot; none until the session is open.
    by_slot: Vec<Option<Seat>>,
}

// One per connection, and room for as many more while they become more.
const _: () = assert!(size_of::<Option<Seat>>() <= 24);

/// What follows from sessions that have taken their places.
#[derive(Debug, Default)]
pub(crate) struct Seated {
    /// Connections here that were closed for it.
    pub(crate) closed: Vec<Slot>,
    /// To be told to other shards.
    pub(crate) elsewhere: Vec<(ShardIndex, ToShard)>,
}

impl Seats {
    pub(crate) fn new(index: ShardIndex, directory: Arc<Directory>) -> Self {
        Self { index, directory, by_slot: Vec::new() }
    }

    /// A connection has come, in a slot that nobody has.
    pub(crate) fn open(&mut self, slot: Slot) {
        let at = slot as usize;
        if self.by_slot.len() <= at {
            self.by_slot.reserve_exact(at + 1 - self.by_slot.len() + growth(self.by_slot.len()));
            let capacity = self.by_slot.capacity();
            self.by_slot.resize_with(capacity, || None);
        }
    }

    /// A connection's socket is gone, and its shard has forgotten it.
    pub(crate) fn remove(&mut self, shard: &mut Shard, slot: Slot) {
        // Its record comes before the end of its row: a session is listed or has one.
        self.leave_records(shard);
        if let Some(seat) = self.by_slot.get_mut(slot as usize).and_then(Option::take) {
            self.directory.disconnect(seat);
        }
    }

    /// Hands on what sessions have left. From then on they are not connected here.
    pub(crate) fn leave_records(&mut self, shard: &mut Shard) {
        for (slot, left) in shard.take_left() {
            let session = left.session;
            self.directory.restores().leave(left);
            let seat = self.by_slot.get_mut(slot as usize);
            if let Some(seat) = seat.and_then(|seat| seat.take_if(|seat| seat.session() == session)) {
                self.directory.disconnect(seat);
            }
        }
    }

    /// Closes a session that the registry says must go, unless its client has come back meanwhile. A connection that has
    /// no seat yet is not the one that was meant, but an operator means them all.
    pub(crate) fn dismiss(&self, shard: &mut Shard, closing: Closing, upto: SeatNumber) -> Vec<Slot> {
        shard.dismiss(closing, |slot| {
            let seat = self.by_slot.get(slot as usize).and_then(Option::as_ref);
            let seat = seat.filter(|seat| seat.session() == closing.session);
            seat.map_or(closing.why == Why::Kicked, |seat| seat.number() <= upto)
        })
    }

    /// What became of a question. A record for which nobody waits any more is given back.
    pub(crate) fn restored(&self, shard: &mut Shard, ask: Ask, restored: Restored) {
        if let Some(record) = shard.restored(&ask, restored) {
            let Ask { session, tenant, user, since, came, .. } = ask;
            self.directory.restores().leave(LeftRecord { session, tenant, user, since, came, record });
        }
    }

    /// Seats the sessions that have opened, or go on as others, at this moment.
    pub(crate) fn seat(&mut self, shard: &mut Shard, identified: &[Slot], now: Now, moment: Instant) -> Seated {
        let (mut seated, mut replaced) = (Seated::default(), Vec::new());
        for slot in identified.iter().copied() {
            let Some((session, identity)) = shard.holder(slot) else { continue };
            let (session, restoring) = (session.id(), session.restoring());
            if restoring.is_some_and(|(_, is_asked)| is_asked) {
                continue;
            }
            let Identity { tenant, user, .. } = identity.clone();
            let Some(place) = self.by_slot.get_mut(slot as usize) else { continue };
            if let Some(seat) = place.take_if(|seat| seat.session() != session) {
                self.directory.disconnect(seat); // It goes on as an earlier session.
            }
            let seat = match place.take() {
                Some(seat) => place.insert(seat),
                None => {
                    let connected_at = Timestamp(now.unix_ms);
                    let row =
                        Row { tenant: tenant.clone(), user: user.clone(), shard: self.index.0.into(), connected_at };
                    // Its number says when it came, whenever it is listed.
                    let (seat, older) = match restoring {
                        Some(_) => self.directory.wait(session, row, moment),
                        None => self.directory.take_over(session, row, moment),
                    };
                    replaced.extend(older.into_iter().map(|of| (session, seat.number(), of)));
                    place.insert(seat)
                }
            };
            let Some((since, came)) = self.directory.since(seat) else {
                seated.closed.push(slot);
                continue;
            };
            // At once: a `hello` may have named the connection twice, and two questions would compete.
            shard.came(slot, since, came);
            if restoring.is_some() {
                // It is listed when it has what the session held, or knows that there is nothing.
                let number = seat.number();
                let awaited = self.directory.seat(session).is_some_and(|(listed, _)| listed != number);
                let shard = self.index.0.into();
                let ask = Ask { session, tenant, user, since, came, number, shard, awaited };
                self.directory.restores().ask(ask, moment);
            } else if !self.directory.list(seat) {
                seated.closed.push(slot);
            }
        }
        // A newer connection goes on with its session.
        seated.closed.retain(|slot| shard.close(*slot, Close::Replaced));
        // An older one is of no use to anybody.
        for (session, newest, of) in replaced {
            let closing = Closing { session, why: Why::Replaced };
            if of == u16::from(self.index.0) {
                seated.closed.extend(self.dismiss_before(shard, closing, newest));
            } else {
                seated.elsewhere.push((ShardIndex(of as u8), ToShard::Dismiss(closing, newest)));
            }
        }
        seated
    }

    fn dismiss_before(&self, shard: &mut Shard, closing: Closing, newest: SeatNumber) -> Vec<Slot> {
        let is_older = |slot: Slot| {
            let seat = self.by_slot.get(slot as usize).and_then(Option::as_ref);
            seat.is_some_and(|seat| seat.session() == closing.session && seat.number() < newest)
        };
        shard.dismiss(closing, is_older)
    }

    /// Gives back what many connections took who are gone.
    pub(crate) fn shrink(&mut self) {
        let used = self.by_slot.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if is_loose(self.by_slot.capacity(), used) {
            self.by_slot.truncate(used);
            self.by_slot.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests;
