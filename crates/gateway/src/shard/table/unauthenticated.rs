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
    /// Those that are closing, slot and number of each, in the order of their closes, among others that have ended.
    closing: VecDeque<(Slot, u64)>,
    /// Connections whose sockets have to end now, and that the worker has not taken yet.
    evicted: Vec<(Slot, u64)>,
}

/// Most connections of one shard without a user that may take their time to close.
const CLOSING_MAX: usize = 32;

/// Entries of the list that need no clean-up.
const STALE_MAX: usize = 64;

/// After this time, a client that had to make room may come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

impl Shard {
    /// A connection has begun. If its user is not known, it counts.
    pub(super) fn note_unauthenticated(&mut self, slot: Slot) {
        if !self.is_unauthenticated(slot) {
            return;
        }
        let number = self.connections[slot].number;
        self.unauthenticated.arrived.push_back((slot, number));
        self.count_unauthenticated(self.unauthenticated.count + 1);
        if self.unauthenticated.arrived.len() > 2 * self.unauthenticated.count + STALE_MAX {
            let connections = &self.connections;
            self.unauthenticated.arrived.retain(|(slot, number)| is_waiting(connections, *slot, *number));
        }
    }

    /// At the limit, the oldest makes room for the newest: an honest client says `hello` within one round trip.
    pub(super) fn limit_unauthenticated(&mut self) {
        if self.unauthenticated.count > self.rules.limits.unauthenticated_max {
            self.evict_unauthenticated();
        }
    }

    /// A connection without a user begins to close. Above the limit, the one that has been closing for longest is cut:
    /// an honest client answers within one round trip, and no other limit counts one that does not.
    pub(super) fn unauthenticated_closes(&mut self, slot: Slot) {
        self.forget_unauthenticated();
        let Unauthenticated { closing, evicted, .. } = &mut self.unauthenticated;
        closing.push_back((slot, self.connections[slot].number));
        let closing_max = (self.rules.limits.unauthenticated_max / 4).clamp(1, CLOSING_MAX);
        if closing.len() > closing_max {
            closing.retain(|(slot, number)| is_there(&self.connections, *slot, *number));
        }
        if closing.len() > closing_max {
            evicted.extend(closing.pop_front());
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
                self.unauthenticated.evicted.push((slot, number));
                return self.send_back(slot, message, RETRY_AFTER_MS);
            }
        }
    }

    /// Connections that had to make room since the last call. Their sockets end at once: a client that does not answer
    /// the close frame would keep its place.
    pub(crate) fn take_evicted(&mut self) -> Vec<Slot> {
        let evicted = self.unauthenticated.evicted.drain(..);
        evicted.filter(|(slot, number)| is_there(&self.connections, *slot, *number)).map(|(slot, _)| slot).collect()
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

fn is_there(connections: &Connections, slot: Slot, number: u64) -> bool {
    connections.get(slot).is_some_and(|connection| connection.number == number)
}

fn is_waiting(connections: &Connections, slot: Slot, number: u64) -> bool {
    connections.get(slot).is_some_and(|connection| {
        connection.number == number && connection.state == ConnectionState::Open && connection.is_unauthenticated()
    })
}
