//! PURE. One write to a connection's socket, and its consequences.

use std::io;

use super::*;
use crate::shard::outbox::Wrote;

/// What the worker does after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flushed {
    /// Whether the socket is full. The worker flushes again when it has room.
    pub(crate) is_blocked: bool,
    /// Whether our direction of the socket ends now.
    pub(crate) ends: bool,
    /// When the connection is checked next, in milliseconds, if that is sooner than planned.
    pub(crate) wake_ms: Option<u64>,
}

impl Shard {
    /// Writes what is queued for a connection with one call of `write`, unless its socket is known to be full.
    ///
    /// # Errors
    ///
    /// When the socket has failed.
    pub(crate) fn flush(
        &mut self,
        slot: Slot,
        now: Now,
        scratch: &mut Vec<u8>,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(Flushed::default()) };
        if connection.blocked {
            return Ok(Flushed::default());
        }
        let mut flushed = Flushed::default();
        if !connection.outbox.is_empty() && connection.outbox.write(scratch, write)? == Wrote::Part {
            flushed = Flushed { is_blocked: true, ends: false, wake_ms: self.block(slot, now) };
        }
        let connection = &self.connections[slot];
        match connection.outbox.is_empty() {
            true if connection.state == ConnectionState::Open => self.resume_replays(slot),
            true => flushed = self.all_written(slot, now),
            false if !connection.blocked => self.connections.mark_dirty(slot),
            false => {}
        }
        Ok(flushed)
    }
}
