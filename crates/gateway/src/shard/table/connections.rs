//! PURE. The connections of one shard and their outboxes.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use wire::SessionId;

use crate::metrics::counters::ShardCounters;
use crate::protocol::outbound::Outbound;
use crate::protocol::outgoing::Outgoing;
use crate::session::rules::Lane;
use crate::shard::arrivals::Arrivals;
use crate::shard::members::Slot;
use crate::shard::outbox::{Outbox, Queued};
use crate::shard::table::closing::ConnectionState;
use crate::shard::table::connection::Connection;
use crate::shard::table::shrink::{TABLE_KEPT, growth, should_shrink};

/// Connections by slot. Indexing by a slot without a connection panics.
#[derive(Debug)]
pub(crate) struct Connections {
    by_slot: Slab<Connection>,
    /// Connections with something to write whose sockets are not known to be full.
    dirty: Vec<Slot>,
    /// When connection numbers were given.
    arrivals: Arrivals,
    /// Bytes of messages that may wait for one client while its socket is full.
    outbox_bytes_max: usize,
    counters: Arc<ShardCounters>,
}

/// The result of delivering a message to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    Queued,
    /// Another subscription of the same client has already queued it.
    Before,
    /// The socket is full, or the client gets only the newest message of each topic.
    Slowly,
}

impl Index<Slot> for Connections {
    type Output = Connection;

    fn index(&self, slot: Slot) -> &Connection {
        &self.by_slot[slot as usize]
    }
}

impl IndexMut<Slot> for Connections {
    fn index_mut(&mut self, slot: Slot) -> &mut Connection {
        &mut self.by_slot[slot as usize]
    }
}

impl Connections {
    pub(super) fn new(outbox_bytes_max: usize, counters: Arc<ShardCounters>) -> Self {
        Self { by_slot: Slab::new(), dirty: Vec::new(), arrivals: Arrivals::default(), outbox_bytes_max, counters }
    }

    pub(super) fn insert(&mut self, connection: Connection, now_ms: u64) -> Slot {
        self.arrivals.note(now_ms, connection.number);
        if self.by_slot.len() == self.by_slot.capacity() {
            self.by_slot.reserve_exact(growth(self.by_slot.len()));
        }
        Slot::try_from(self.by_slot.insert(connection)).expect("fewer sockets than descriptors")
    }

    /// Removes a connection. The caller has checked that it exists.
    pub(super) fn remove(&mut self, slot: Slot) -> Connection {
        let connection = self.by_slot.remove(slot as usize);
        if connection.blocked {
            self.counters.backlog.sub(connection.outbox.cost());
        }
        connection
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Connection> {
        self.by_slot.get(slot as usize)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.by_slot.get_mut(slot as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Connection)> {
        self.by_slot.iter().map(|(slot, connection)| (slot as Slot, connection))
    }

    /// All connections that arrived at least `ago` have numbers below this one.
    pub(super) fn number_before(&self, now_ms: u64, ago: Duration) -> u64 {
        self.arrivals.before(now_ms, ago)
    }

    pub(super) fn of_session(&self, session: SessionId) -> Vec<Slot> {
        self.iter().filter(|(_, connection)| connection.session.id() == session).map(|(slot, _)| slot).collect()
    }

    /// Whether a connection exists and accepts replies.
    pub(super) fn is_open(&self, slot: Slot) -> bool {
        self.get(slot).is_some_and(|connection| connection.state == ConnectionState::Open)
    }

    /// Marks a connection for the next round of writes, unless its socket is full.
    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        let connection = &mut self.by_slot[slot as usize];
        if !connection.dirty && !connection.blocked {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Takes the list of connections to write to, and unmarks them.
    pub(super) fn take_dirty(&mut self, into: &mut Vec<Slot>) {
        for slot in &self.dirty {
            if let Some(connection) = self.by_slot.get_mut(*slot as usize) {
                connection.dirty = false;
            }
        }
        into.append(&mut self.dirty);
    }

    /// How many bytes of messages may be queued for a client. Bounded only while its socket is full. A message that is
    /// larger than the bound and is being written has room beside it.
    pub(super) fn bytes_max(&self, slot: Slot) -> usize {
        let Connection { blocked, outbox, .. } = &self[slot];
        if *blocked { self.outbox_bytes_max + outbox.oversized(self.outbox_bytes_max) } else { usize::MAX }
    }

    /// Queues a message for one receiver without a bound, and only once. `stamp` identifies the message.
    #[inline]
    pub(super) fn deliver(&mut self, slot: Slot, stamp: u64, lane: Lane, message: &Outgoing) -> Delivered {
        let connection = &mut self.by_slot[slot as usize];
        if connection.stamp == stamp {
            return Delivered::Before;
        }
        connection.stamp = stamp;
        if connection.blocked | connection.is_conflating {
            return Delivered::Slowly;
        }
        connection.outbox.append(lane, Outbound::Message(message.clone()));
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
        Delivered::Queued
    }

    /// Queues an entry for a connection that is not closing. Once the connection closes, only close frames are queued:
    /// the client would not notice messages that are missing before later entries.
    pub(super) fn push(&mut self, slot: Slot, lane: Lane, outbound: Outbound, bytes_max: usize) -> Queued {
        if self[slot].state != ConnectionState::Open && lane != Lane::CLOSE {
            return Queued::Yes;
        }
        let queued = self.change_outbox(slot, |outbox| outbox.push(lane, outbound, bytes_max));
        self.mark_dirty(slot);
        queued
    }

    /// Changes the outbox of a client, and updates the backlog of all blocked clients.
    pub(super) fn change_outbox<T>(&mut self, slot: Slot, change: impl FnOnce(&mut Outbox) -> T) -> T {
        let connection = &mut self.by_slot[slot as usize];
        let before = connection.outbox.cost();
        let changed = change(&mut connection.outbox);
        if connection.blocked {
            self.counters.backlog.add(connection.outbox.cost());
            self.counters.backlog.sub(before);
        }
        changed
    }

    /// Drops the entries whose write has not started.
    pub(super) fn discard_unsent(&mut self, slot: Slot) {
        if let Some(confirmation) = &mut self[slot].confirmation {
            confirmation.mark_incomplete();
        }
        self.change_outbox(slot, Outbox::discard_unsent);
    }

    /// Shrinks the tables after many connections have closed. Slots do not move, so the table ends after the last used
    /// one.
    pub(super) fn shrink(&mut self) {
        if should_shrink(self.by_slot.capacity(), self.by_slot.len()) {
            self.by_slot.shrink_to_fit();
        }
        self.dirty.shrink_to(TABLE_KEPT);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.by_slot.capacity()
    }
}
