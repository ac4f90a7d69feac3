//! PURE. The directory entries of one shard's connections: sessions register, leave records, and ask for them.

use std::sync::Arc;
use std::time::Instant;

use connection_registry::{
    CloseReason, ClosedSessionRecord, ConnectionRow, Directory, Registration, RegistrationNumber, RestoreRequest,
    RestoreResult, SessionClose,
};
use message_router::ShardIndex;
use wire::{Close, Timestamp};

use crate::auth::token::Identity;
use crate::host::clock::Now;
use crate::shard::members::Slot;
use crate::shard::requests::ToShard;
use crate::shard::table::{Shard, growth, should_shrink};

/// The registrations of one shard's connections.
#[derive(Debug)]
pub(crate) struct Registrations {
    index: ShardIndex,
    directory: Arc<Directory>,
    /// By slot. `None` until the session is open.
    by_slot: Vec<Option<Registration>>,
}

// The table has one entry per connection, and spare ones.
const _: () = assert!(size_of::<Option<Registration>>() <= 24);

/// The consequences of registering sessions.
#[derive(Debug, Default)]
pub(crate) struct RegistrationOutcome {
    /// Connections here that were closed by it.
    pub(crate) closed: Vec<Slot>,
    /// Commands for other shards.
    pub(crate) elsewhere: Vec<(ShardIndex, ToShard)>,
}

impl Registrations {
    pub(crate) fn new(index: ShardIndex, directory: Arc<Directory>) -> Self {
        Self { index, directory, by_slot: Vec::new() }
    }

    /// A connection has been added in a free slot.
    pub(crate) fn open(&mut self, slot: Slot) {
        let at = slot as usize;
        if self.by_slot.len() <= at {
            self.by_slot.reserve_exact(at + 1 - self.by_slot.len() + growth(self.by_slot.len()));
            let capacity = self.by_slot.capacity();
            self.by_slot.resize_with(capacity, || None);
        }
    }

    /// A connection's socket has ended, and its shard has removed it.
    pub(crate) fn remove(&mut self, shard: &mut Shard, slot: Slot) {
        // The record is left before the row ends: a session always has a row or a record.
        self.leave_records(shard);
        if let Some(registration) = self.by_slot.get_mut(slot as usize).and_then(Option::take) {
            self.directory.disconnect(registration);
        }
    }

    /// Passes on the records that sessions have left. From then on they are not connected here.
    pub(crate) fn leave_records(&mut self, shard: &mut Shard) {
        for (slot, left) in shard.take_left() {
            let session = left.session;
            self.directory.restores().leave(left);
            let registration = self.by_slot.get_mut(slot as usize);
            if let Some(registration) = registration
                .and_then(|registration| registration.take_if(|registration| registration.session() == session))
            {
                self.directory.disconnect(registration);
            }
        }
    }

    /// Closes a session at the request of the registry, unless its client has reconnected in the meantime. A connection
    /// without a registration is not meant, except when an operator closes the session: that means all of its
    /// connections.
    pub(crate) fn close_session(
        &self,
        shard: &mut Shard,
        closing: SessionClose,
        upto: RegistrationNumber,
    ) -> Vec<Slot> {
        shard.close_session(closing, |slot| {
            let registration = self.by_slot.get(slot as usize).and_then(Option::as_ref);
            let registration = registration.filter(|registration| registration.session() == closing.session);
            registration.map_or(closing.why == CloseReason::Kicked, |registration| registration.number() <= upto)
        })
    }

    /// Handles the answer to a restore request. A record that no connection can take is returned to the registry.
    pub(crate) fn restored(&self, shard: &mut Shard, ask: RestoreRequest, restored: RestoreResult, now: Now) {
        if let Some(record) = shard.restored(&ask, restored, now) {
            let RestoreRequest { session, tenant, user, since, arrival, .. } = ask;
            self.directory.restores().leave(ClosedSessionRecord { session, tenant, user, since, arrival, record });
        }
    }

    /// Registers the sessions that have opened, or continue as other sessions, at this moment.
    pub(crate) fn register(
        &mut self,
        shard: &mut Shard,
        identified: &[Slot],
        now: Now,
        moment: Instant,
    ) -> RegistrationOutcome {
        let (mut outcome, mut replaced) = (RegistrationOutcome::default(), Vec::new());
        for slot in identified.iter().copied() {
            let Some((session, identity)) = shard.holder(slot) else { continue };
            let (session, restoring) = (session.id(), session.restoring());
            if restoring.is_some_and(|(_, is_asked)| is_asked) {
                continue;
            }
            let Identity { tenant, user, .. } = identity.clone();
            let Some(place) = self.by_slot.get_mut(slot as usize) else { continue };
            if let Some(registration) = place.take_if(|registration| registration.session() != session) {
                self.directory.disconnect(registration); // The connection continues as an earlier session.
            }
            let registration = match place.take() {
                Some(registration) => place.insert(registration),
                None => {
                    let connected_at = Timestamp(now.unix_ms);
                    let row = ConnectionRow {
                        tenant: tenant.clone(),
                        user: user.clone(),
                        shard: self.index.0.into(),
                        connected_at,
                    };
                    // Its number gives the order of arrival, even if it is listed later.
                    let (registration, older) = match restoring {
                        Some(_) => self.directory.wait(session, row, moment),
                        None => self.directory.take_over(session, row, moment),
                    };
                    replaced.extend(older.into_iter().map(|of| (session, registration.number(), of)));
                    place.insert(registration)
                }
            };
            let Some((since, arrival)) = self.directory.since(registration) else {
                outcome.closed.push(slot);
                continue;
            };
            // Immediately: one connection may be listed twice after a `hello`, and two requests would compete.
            shard.arrived(slot, since, arrival);
            if restoring.is_some() {
                // It is listed when it has restored the session's subscriptions, or knows that there are none.
                let number = registration.number();
                let awaited = self.directory.registration(session).is_some_and(|(listed, _)| listed != number);
                let shard = self.index.0.into();
                let ask = RestoreRequest { session, tenant, user, since, arrival, number, shard, awaited };
                self.directory.restores().ask(ask, moment);
            } else if !self.directory.list(registration) {
                outcome.closed.push(slot);
            }
        }
        // A newer connection continues the session.
        outcome.closed.retain(|slot| shard.close(*slot, Close::Replaced));
        // Older connections of the session are no longer needed.
        for (session, newest, of) in replaced {
            let closing = SessionClose { session, why: CloseReason::Replaced };
            if of == u16::from(self.index.0) {
                outcome.closed.extend(self.close_older(shard, closing, newest));
            } else {
                outcome.elsewhere.push((ShardIndex(of as u8), ToShard::CloseSession(closing, newest)));
            }
        }
        outcome
    }

    fn close_older(&self, shard: &mut Shard, closing: SessionClose, newest: RegistrationNumber) -> Vec<Slot> {
        let is_older = |slot: Slot| {
            let registration = self.by_slot.get(slot as usize).and_then(Option::as_ref);
            registration
                .is_some_and(|registration| registration.session() == closing.session && registration.number() < newest)
        };
        shard.close_session(closing, is_older)
    }

    /// Shrinks the table after many connections have closed.
    pub(crate) fn shrink(&mut self) {
        let used = self.by_slot.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if should_shrink(self.by_slot.capacity(), used) {
            self.by_slot.truncate(used);
            self.by_slot.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests;
