//! PURE. Connections whose user is not known yet. They have a limit of their own, so that they never take the places of
//! clients with tokens.

use std::collections::VecDeque;

use super::*;

/// The connections of one shard that have shown no token.
#[derive(Debug, Default)]
pub(super) struct Unauthenticated {
    /// Slot and number of each in the order of arrival, among others that have shown one or have ended since.
    arrived: VecDeque<(Slot, u64)>,
    count: usize,
    /// Closed to make room, and not taken by the worker yet.
    evicted: Vec<Slot>,
}

/// Entries of the list that need no clean-up.
const STALE_MAX: usize = 64;

/// After this time, a client that had to make room may come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

impl Shard {
    /// A connection has begun. If its user is not known, it counts, and at the limit the oldest makes room for it: an
    /// honest client says `hello` within one round trip.
    pub(super) fn note_unauthenticated(&mut self, slot: Slot) {
        if !self.is_unauthenticated(slot) {
            return;
        }
        let number = self.connections[slot].number;
        self.unauthenticated.arrived.push_back((slot, number));
        self.count_unauthenticated(self.unauthenticated.count + 1);
        if self.unauthenticated.count > self.rules.limits.unauthenticated_max {
            self.evict_unauthenticated();
        }
        if self.unauthenticated.arrived.len() > 2 * self.unauthenticated.count + STALE_MAX {
            let connections = &self.connections;
            self.unauthenticated.arrived.retain(|(slot, number)| is_waiting(connections, *slot, *number));
        }
    }

    /// Call this when the user of a connection has become known, or before a connection without a user ends.
    pub(super) fn forget_unauthenticated(&mut self) {
        self.count_unauthenticated(self.unauthenticated.count - 1);
    }

    /// Whether a connection is open and its user is not known.
    pub(super) fn is_unauthenticated(&self, slot: Slot) -> bool {
        let connection = self.connections.get(slot);
        connection
            .is_some_and(|connection| connection.state == ConnectionState::Open && connection.is_unauthenticated())
    }

    /// Closes the connection that has been without a user for longest. The client may come back.
    pub(crate) fn evict_unauthenticated(&mut self) {
        while let Some((slot, number)) = self.unauthenticated.arrived.pop_front() {
            if is_waiting(&self.connections, slot, number) {
                self.counters.unauthenticated_evictions.add(1);
                let message = "too many clients connect without saying hello; send it at once";
                self.unauthenticated.evicted.push(slot);
                return self.send_back(slot, message, RETRY_AFTER_MS);
            }
        }
    }

    /// Connections that were closed to make room since the last call. Their sockets end at once: a client that does not
    /// answer the close frame would keep its place.
    pub(crate) fn take_evicted(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.unauthenticated.evicted)
    }

    /// Closes a connection that this instance has no room for.
    pub(crate) fn send_back(&mut self, slot: Slot, message: &'static str, retry_after_ms: u64) {
        let error = ServerFrame::Error {
            code: ErrorCode::Unavailable,
            message: message.into(),
            channel: None,
            retry_after_ms: Some(retry_after_ms),
            correlation_id: None,
        };
        self.carry_out(slot, &mut vec![Effect::Refuse(error), Effect::Close(Close::TryAgainLater)]);
    }

    fn count_unauthenticated(&mut self, count: usize) {
        self.unauthenticated.count = count;
        self.counters.unauthenticated.set(count as u64);
    }
}

fn is_waiting(connections: &Connections, slot: Slot, number: u64) -> bool {
    connections.get(slot).is_some_and(|connection| {
        connection.number == number && connection.state == ConnectionState::Open && connection.is_unauthenticated()
    })
}
