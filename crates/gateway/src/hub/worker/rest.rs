//! Gives back what many connections took who are gone.

use super::*;
use crate::hub::shard::is_loose;

impl Worker {
    /// To be called when connections have stopped coming and going.
    pub(super) fn shrink(&self) {
        self.shard.borrow_mut().shrink();
        let mut ends = self.ends.borrow_mut();
        let used = ends.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if is_loose(ends.capacity(), used) {
            ends.truncate(used);
            ends.shrink_to_fit();
        }
        self.wheel.borrow_mut().shrink();
    }
}
