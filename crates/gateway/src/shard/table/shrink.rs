//! PURE. What thousands took who are gone is given back.

use super::*;

/// Tables up to this size are not made smaller.
const TABLE_KEPT: usize = 1_024;

/// Whether less than a quarter of a table is used.
pub(crate) fn should_shrink(capacity: usize, len: usize) -> bool {
    capacity > TABLE_KEPT && capacity / 4 > len
}

impl Shard {
    /// To be called when connections have stopped coming and going.
    pub(crate) fn shrink(&mut self) {
        // The places of those who are here stay what they are, so it ends behind the last of them.
        if should_shrink(self.connections.capacity(), self.connections.len()) {
            self.connections.shrink_to_fit();
        }
        if should_shrink(self.scopes.capacity(), self.scopes.len()) {
            self.scopes.shrink_to(2 * self.scopes.len());
        }
        if should_shrink(self.slow_clients.capacity(), self.slow_clients.len()) {
            self.slow_clients.shrink_to(2 * self.slow_clients.len());
        }
        for slots in [&mut self.dirty, &mut self.identified, &mut self.slow] {
            slots.shrink_to(TABLE_KEPT);
        }
        self.requests.shrink_to(TABLE_KEPT);
        self.receipts.shrink_to(TABLE_KEPT);
    }
}
