//! Gives back what many connections took who are gone.

use super::*;
use crate::shard::table::should_shrink;

impl Worker {
    /// To be called when connections have stopped coming and going.
    pub(super) fn shrink(&self) {
        self.shard.borrow_mut().shrink();
        let mut sockets = self.sockets.borrow_mut();
        let used = sockets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if should_shrink(sockets.capacity(), used) {
            sockets.truncate(used);
            sockets.shrink_to_fit();
        }
        self.registrations.borrow_mut().shrink();
        self.wheel.borrow_mut().shrink();
    }
}
