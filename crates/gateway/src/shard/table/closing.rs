//! PURE. How a connection is closed.
//!
//! ```text
//!   Open ──close──▶ Closing ──all written──▶ CloseSent ──its close frame──▶ Answered
//!     │                └──────its close frame─────┐                            │ at once
//!     └──its close frame, or it cannot send one──▶ Ending ──all written──▶ Finished ──socket gone──▶ (removed)
//! ```
//!
//! The gateway ends its direction of the socket only after both close frames have been exchanged (RFC 6455 §7.1.1). An
//! earlier end would lose the client's close frame, which confirms what the client has received: HAProxy closes both
//! directions when one ends, and TLS 1.2 (RFC 5246 §7.2.1) tells the client to do the same.

use std::time::Duration;

use connection_registry::{CloseReason, SessionClose};

use crate::config::CLOSE_TIMEOUT;
use crate::metrics::refusal_log::RefusedClient;
use crate::session::REVOKED;
use crate::shard::departures::Departures;

use super::*;

/// A client that does not answer a close frame is disconnected after this time, in milliseconds.
pub(super) const CLOSE_TIMEOUT_MS: u64 = CLOSE_TIMEOUT.as_millis() as u64;

/// The same where the session continues on another connection, which waits for the record of this one.
const HAND_OVER_TIMEOUT_MS: u64 = 1_000;

/// How long a client may take to answer a close frame, in milliseconds.
pub(super) fn close_timeout_ms(connection: &Connection) -> u64 {
    let is_awaited = connection.confirmation.as_ref().is_some_and(|confirmation| confirmation.is_awaited());
    match is_awaited {
        true => HAND_OVER_TIMEOUT_MS,
        false => CLOSE_TIMEOUT_MS,
    }
}

/// Most refusals between two looks at them. The log has a lower rate.
const REFUSED_MAX: usize = 256;

/// Whether a close is worth a line in the log: the client did something wrong, or is not let in. The others are the
/// network's, the operator's plans, or a user's second tab, and are counted.
fn is_refusal(close: Close) -> bool {
    match close {
        Close::Normal | Close::Restart | Close::SlowConsumer | Close::PingTimeout | Close::Replaced => false,
        Close::ProtocolError
        | Close::InvalidUtf8
        | Close::TooBig
        | Close::Internal
        | Close::TryAgainLater
        | Close::TokenExpired
        | Close::HelloTimeout
        | Close::RateLimited
        | Close::TooManyConnections
        | Close::Unauthenticated
        | Close::WrongTenant
        | Close::WrongOrigin
        | Close::WrongSubprotocol
        | Close::Kicked
        | Close::Revoked => true,
    }
}

/// The progress of a connection towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Open,
    /// A close frame is queued. Nothing more is accepted or queued.
    Closing,
    /// Our close frame is written. The client has limited time to read and answer it.
    CloseSent,
    /// The client has answered our close frame. Our direction ends now.
    Answered,
    /// The client has sent its close frame, or cannot send one that is readable. Our direction ends when everything is
    /// written.
    Ending,
    /// Our direction has ended. The client has limited time to end its own.
    Finished,
}

impl Shard {
    /// Closes a connection after an `error` frame with a code and a message.
    pub(crate) fn refuse(&mut self, slot: Slot, code: ErrorCode, message: &str, close: Close) {
        self.carry_out(slot, &mut vec![refuse(code, message, None, None), Effect::Close(close)]);
    }

    /// Closes those connections of a session that `is_meant` selects. Returns the ones that were still open.
    pub(crate) fn close_session(&mut self, closing: SessionClose, is_meant: impl Fn(Slot) -> bool) -> Vec<Slot> {
        let SessionClose { session, why } = closing;
        let mut slots = self.connections.of_session(session);
        slots.retain(|slot| self.connections[*slot].state == ConnectionState::Open && is_meant(*slot));
        for slot in slots.iter().copied() {
            match why {
                CloseReason::TooMany => {
                    let message = "this user, or this tenant, has as many connections as it may";
                    self.refuse(slot, ErrorCode::TooManyConnections, message, Close::TooManyConnections);
                }
                CloseReason::Replaced => drop(self.close(slot, Close::Replaced)),
                CloseReason::Kicked => drop(self.close(slot, Close::Kicked)),
            }
        }
        slots
    }

    /// Closes the connections whose token, session or user has been revoked. Returns which ones.
    pub(crate) fn close_revoked(&mut self) -> Vec<Slot> {
        let rules = Arc::clone(&self.rules);
        let open = self.connections.iter().filter(|(_, connection)| connection.state == ConnectionState::Open);
        let known = open
            .filter_map(|(slot, Connection { session, .. })| Some((slot, session.id(), session.identity()?.holder())));
        let slots = rules.verifier.get().revocations().select(known);
        for slot in slots.iter().copied() {
            self.refuse(slot, ErrorCode::Revoked, REVOKED, Close::Revoked);
        }
        slots
    }

    /// The instance is draining: moves `departures.count` more clients, and accepts no new ones.
    pub(crate) fn drain(&mut self, departures: Departures) {
        self.is_draining = true;
        self.send_away(departures);
    }

    /// The instance has lost its lease while it was asleep. Messages that wait to be written may be stale, and other
    /// instances have taken over.
    pub(crate) fn fence(&mut self, spread: Duration) {
        let slots: Vec<Slot> = self.connections.iter().map(|(slot, _)| slot).collect();
        slots.iter().for_each(|slot| self.connections.discard_unsent(*slot));
        let count = slots.len();
        self.send_away(Departures::spread(count, spread));
    }

    /// Sends `departures.count` clients to other instances. Each one gets its own delay, so that they do not all arrive
    /// at once.
    fn send_away(&mut self, departures: Departures) {
        let open = self.connections.iter().filter(|(_, connection)| connection.state == ConnectionState::Open);
        let slots: Vec<Slot> = open.take(departures.count).map(|(slot, _)| slot).collect();
        self.send_these_away(slots, departures);
    }

    /// Moves `departures.count` clients to instances with fewer connections. The oldest connections move first, so a
    /// client that has just been moved here is the last. A client that still has something to read, or has shown no
    /// token yet, is not moved.
    pub(crate) fn rebalance(&mut self, departures: Departures, spare: Duration, now: Now) {
        let arrived_since = self.connections.number_before(now.mono_ms, spare);
        let may_go = |connection: &Connection| {
            let is_calm = connection.state == ConnectionState::Open && !connection.blocked && !connection.is_behind;
            is_calm && connection.number < arrived_since && connection.session.identity().is_some()
        };
        let candidates = self.connections.iter().filter(|(_, connection)| may_go(connection));
        let mut candidates: Vec<_> = candidates.map(|(slot, connection)| (connection.number, slot)).collect();
        candidates.sort_unstable();
        candidates.truncate(departures.count);
        self.counters.rebalanced.add(candidates.len() as u64);
        self.send_these_away(candidates.into_iter().map(|(_, slot)| slot).collect(), departures);
    }

    fn send_these_away(&mut self, slots: Vec<Slot>, departures: Departures) {
        for (slot, after_ms) in slots.into_iter().zip(departures.after_ms()) {
            self.reply(slot, &ServerFrame::Reconnect { after_ms });
            self.close(slot, Close::Restart);
        }
    }

    /// Starts to close a connection: sends the reason, accepts nothing more, and ends its subscriptions. Returns false
    /// if it was already closing.
    pub(crate) fn close(&mut self, slot: Slot, close: Close) -> bool {
        self.close_because(slot, close, None)
    }

    /// The same. `reason` is the sentence of the `error` frame before it, for the log.
    pub(super) fn close_because(&mut self, slot: Slot, close: Close, reason: Option<String>) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.state != ConnectionState::Open {
            return false;
        }
        let is_unauthenticated = connection.is_unauthenticated();
        connection.state = ConnectionState::Closing;
        self.counters.closes.count(&Close::ALL, close);
        if is_refusal(close) && self.refused.len() < REFUSED_MAX {
            let session = &connection.session;
            let user = session.identity().map(|identity| (identity.tenant.clone(), identity.user.clone()));
            let reason = reason.unwrap_or_else(|| close.reason().to_owned());
            let refused = RefusedClient { code: close.code(), reason, session: Some(session.id()), user };
            self.refused.push((slot, refused));
        }
        if is_unauthenticated {
            self.unauthenticated_closes(slot);
        }
        if close == Close::SlowConsumer {
            self.connections.discard_unsent(slot);
        }
        self.note_end(slot, Some(close.code()));
        self.leave_all(slot);
        self.queue(slot, Lane::CLOSE, &ServerFrame::Bye { code: close.code(), reason: close.reason().into() });
        if let Some(end) = self.connections[slot].outbox.format().close(close) {
            self.queue_outbound(slot, Lane::CLOSE, end);
        }
        true
    }

    /// Closes a client that reads too slowly. The client reconnects and resumes from history, so it loses nothing.
    pub(super) fn close_slow(&mut self, slot: Slot) {
        if self.close(slot, Close::SlowConsumer) {
            self.counters.slow_closes.add(1);
        }
    }

    /// The client has sent its close frame with this code. `answer` is queued behind everything else, unless we closed
    /// first.
    pub(crate) fn end(&mut self, slot: Slot, code: Option<u16>, answer: Option<Outbound>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let (was, is_unauthenticated) = (connection.state, connection.is_unauthenticated());
        connection.state = match was {
            ConnectionState::Open | ConnectionState::Closing | ConnectionState::Ending => ConnectionState::Ending,
            ConnectionState::CloseSent | ConnectionState::Answered => ConnectionState::Answered,
            ConnectionState::Finished => ConnectionState::Finished,
        };
        self.note_end(slot, None);
        self.leave_record(slot, code);
        if was == ConnectionState::Open {
            if is_unauthenticated {
                self.unauthenticated_closes(slot);
            }
            self.leave_all(slot);
            if let Some(answer) = answer {
                self.queue_outbound(slot, Lane::CLOSE, answer);
            }
        }
    }

    /// Everything queued for a closing connection has been written.
    pub(super) fn all_written(&mut self, slot: Slot, now: Now) -> Flushed {
        let connection = &mut self.connections[slot];
        let (state, is_timed) = match connection.state {
            ConnectionState::Open | ConnectionState::CloseSent | ConnectionState::Finished => {
                return Flushed::default();
            }
            // A client without answers sends no close frame.
            ConnectionState::Closing if !connection.outbox.format().has_answers() => (ConnectionState::Finished, false),
            ConnectionState::Closing => (ConnectionState::CloseSent, false),
            ConnectionState::Ending => (ConnectionState::Finished, false),
            // Its timeout started when our close frame was written.
            ConnectionState::Answered => (ConnectionState::Finished, true),
        };
        connection.state = state;
        if !is_timed {
            connection.wake_ms = now.mono_ms + close_timeout_ms(connection);
        }
        let wake_ms = (!is_timed).then_some(connection.wake_ms);
        Flushed { is_blocked: false, ends: state == ConnectionState::Finished, wake_ms }
    }

    /// Removes a connection whose socket has ended.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Session> {
        self.connections.get(slot)?;
        if self.is_unauthenticated(slot) {
            self.forget_unauthenticated();
        }
        self.note_end(slot, None);
        self.leave_record(slot, None);
        self.leave_all(slot);
        Some(self.connections.remove(slot).session)
    }
}
