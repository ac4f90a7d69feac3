//! PURE. How a connection ends.
//!
//! ```text
//!   Open ──close──▶ Closing ──its close frame──▶ Ending ──all written──▶ Finished ──socket gone──▶ (removed)
//!     └──────────its close frame──────────────────▲
//! ```

use super::*;

/// A client that never answers a close is cut off after this long.
pub(super) const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    /// A close frame is queued; nothing is taken in or queued any more.
    Closing,
    /// The client has sent its close frame: the socket ends when the answer is written.
    Ending,
    /// Everything is written. The client has a moment to read it and close.
    Finished,
}

impl Shard {
    /// Closes after an `error` frame that says more than a code.
    pub(crate) fn refuse(&mut self, slot: Slot, code: ErrorCode, message: &str, close: Close) {
        self.carry_out(slot, &mut vec![refuse(code, message, None, None), Effect::Close(close)]);
    }

    /// Begins to close: tells why, takes nothing more, and stops hearing for this client. False if it had begun.
    pub(crate) fn close(&mut self, slot: Slot, close: Close) -> bool {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return false };
        if connection.life != Life::Open {
            return false;
        }
        connection.life = Life::Closing;
        if close == Close::SlowConsumer {
            connection.outbox.discard_unsent();
        }
        self.leave_all(slot);
        let bye = ServerFrame::Bye { code: close.code(), reason: close.reason() };
        self.queue(slot, Lane::CLOSE, bye.encode());
        self.queue(slot, Lane::CLOSE, close_frame(close));
        true
    }

    /// Closes a client whose outbox is full. It comes back and resumes from history, so it loses nothing.
    pub(super) fn close_slow(&mut self, slot: Slot) {
        if self.close(slot, Close::SlowConsumer) {
            self.counters.slow_closes.add(1);
        }
    }

    /// The client sent its close frame; `answer` goes out behind what is queued, unless we closed first.
    pub(crate) fn end(&mut self, slot: Slot, answer: Option<Encoded>) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let was = connection.life;
        if was != Life::Finished {
            connection.life = Life::Ending;
        }
        if was == Life::Open {
            self.leave_all(slot);
            if let Some(answer) = answer {
                self.queue(slot, Lane::CLOSE, answer);
            }
        }
    }

    /// The last byte of a connection that ends has been written. Says, the first time, when it is to be cut.
    pub(crate) fn finish(&mut self, slot: Slot, now: Now) -> Option<u64> {
        let connection = &mut self.connections[slot as usize];
        if matches!(connection.life, Life::Open | Life::Finished) {
            return None;
        }
        connection.life = Life::Finished;
        connection.wake_ms = now.mono_ms + CLOSE_TIMEOUT_MS;
        Some(connection.wake_ms)
    }

    /// Forgets a connection whose socket is gone.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Session> {
        if !self.connections.contains(slot as usize) {
            return None;
        }
        self.leave_all(slot);
        Some(self.connections.remove(slot as usize).session)
    }
}

/// A close frame (RFC 6455 §5.5.1).
fn close_frame(close: Close) -> Encoded {
    let payload = [&close.code().to_be_bytes(), close.reason().as_bytes()].concat();
    Encoded::new(wire::Opcode::Close, &payload)
}
