//! Closes connections at the request of other threads, and has them looked at in time.

use connection_registry::{RegistrationNumber, SessionClose};

use super::Worker;

impl Worker {
    pub(super) fn close_session(&self, closing: SessionClose, upto: RegistrationNumber) {
        let (mut shard, now) = (self.shard.borrow_mut(), self.clock.now());
        for slot in self.registrations.borrow().close_session(&mut shard, closing, upto) {
            self.wake_sooner(&mut shard, slot, now);
        }
    }

    pub(super) fn close_revoked(&self) {
        let (mut shard, now) = (self.shard.borrow_mut(), self.clock.now());
        for slot in shard.close_revoked() {
            self.wake_sooner(&mut shard, slot, now);
        }
    }
}
