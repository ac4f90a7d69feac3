//! Connections whose sockets end at once, behind the close frame: they hold memory or a place that others need.

use super::*;

/// After this time, a client whose message was cut off may come back, in milliseconds.
const CUT_RETRY_AFTER_MS: u64 = 1_000;

impl Worker {
    /// Notes what a client has begun to send and not ended. If all hold too much together, those that began first are
    /// closed.
    pub(crate) fn note_unfinished(self: &Rc<Self>, slot: Slot, unfinished: Option<Unfinished>) {
        let mut messages = self.unfinished.borrow_mut();
        if unfinished.is_none() && messages.is_empty() {
            return; // Most reads end with a whole message.
        }
        messages.note(slot, unfinished, self.clock.now().mono_ms);
        let excess = messages.take_excess();
        self.counters.inbound.set(messages.bytes() as u64);
        drop(messages);
        for slot in excess {
            self.counters.inbound_evictions.add(1);
            self.cut(slot, "this instance holds too many unfinished messages; come back a little later");
        }
    }

    pub(super) fn end_overdue_messages(self: &Rc<Self>, now: Now) {
        let overdue = self.unfinished.borrow_mut().take_overdue(now.mono_ms);
        for slot in overdue {
            self.counters.message_timeouts.add(1);
            self.cut(slot, "a message took too long from its first byte to its last (limits.message_timeout_ms)");
        }
        self.counters.inbound.set(self.unfinished.borrow().bytes() as u64);
    }

    /// Closes a connection and frees what it has sent. Only its reader can free it, so the socket ends at once, behind
    /// the close frame.
    fn cut(self: &Rc<Self>, slot: Slot, message: &'static str) {
        self.shard.borrow_mut().send_back(slot, message, CUT_RETRY_AFTER_MS);
        self.finish(slot);
    }

    /// Ends the sockets of the clients without a token that have to make room for others.
    pub(super) fn cut_evicted(self: &Rc<Self>) {
        let evicted = self.shard.borrow_mut().take_evicted();
        evicted.into_iter().for_each(|slot| self.finish(slot));
    }

    /// Writes what is queued for a connection and ends its socket.
    fn finish(self: &Rc<Self>, slot: Slot) {
        self.flush(slot);
        if let Some(socket) = self.sockets.get(slot) {
            socket.shutdown(Shutdown::Both);
        }
    }
}
