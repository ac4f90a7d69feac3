//! PURE. Timed work of a connection: pings, deadlines, and `position` frames for quiet topics.

use super::closing::close_timeout_ms;
use super::*;
use crate::session::rules::Limits;
use crate::shard::wheel::span_ms;

/// What the worker does with a connection that it has woken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Nothing: the wake was out of date.
    Stale,
    /// Wake it again at this time, in milliseconds.
    At(u64),
    /// Its time is over: disconnect the socket.
    Disconnect,
}

/// The state of the last ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ping {
    /// The pong has arrived, or no ping has been sent yet.
    Answered,
    /// Nothing has arrived since the ping.
    Silent,
    /// Bytes have arrived since the ping, but no pong.
    Alive,
}

impl Shard {
    /// The time until the first ping, in milliseconds. It is spread over the interval, so that ten thousand clients
    /// that arrived together are not pinged together.
    pub(super) fn first_ping_ms(&self) -> u64 {
        let interval_ms = self.rules.limits.ping_interval_ms;
        let spread = self.next_number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        interval_ms / 2 + ((spread * (interval_ms / 2)) >> 32)
    }

    /// When a new connection is checked first, in milliseconds.
    pub(crate) fn first_wake(&mut self, slot: Slot, now: Now) -> u64 {
        let connection = &mut self.connections[slot];
        connection.wake_ms = next_wake_ms(connection, &self.rules, now);
        connection.wake_ms
    }

    /// A token has arrived or changed. Returns when the connection is checked next, if that is sooner than planned.
    pub(crate) fn wake_sooner(&mut self, slot: Slot, now: Now) -> Option<u64> {
        let connection = self.connections.get_mut(slot)?;
        let at_ms = next_wake_ms(connection, &self.rules, now);
        if at_ms >= connection.wake_ms {
            return None;
        }
        connection.wake_ms = at_ms;
        Some(at_ms)
    }

    /// Checks a connection: sends a ping, or closes it if a deadline has passed.
    pub(crate) fn wake(&mut self, slot: Slot, now: Now) -> Wake {
        let limits = &self.rules.limits;
        let (interval_ms, pong_ms) = (limits.ping_interval_ms, limits.pong_timeout_ms);
        let (write_ms, ping_lead_ms) = (limits.write_timeout_ms, limits.ping_lead_ms());
        let Some(connection) = self.connections.get_mut(slot) else { return Wake::Stale };
        if now.mono_ms < connection.wake_ms {
            return Wake::Stale;
        }
        if connection.state != ConnectionState::Open {
            return Wake::Disconnect;
        }
        let expiry = connection.session.check_expiry(&self.rules, now);
        if now.mono_ms >= connection.session.hello_by_ms() {
            self.refuse(slot, ErrorCode::Unauthenticated, "no token came in time", Close::HelloTimeout);
        } else if expiry == Expiry::Close {
            self.refuse(slot, ErrorCode::TokenExpired, "the token has expired", Close::TokenExpired);
        } else if let Expiry::Tell(left_ms) = expiry {
            self.tell_of_expiry(slot, left_ms);
        } else if connection.blocked && now.mono_ms >= connection.blocked_ms + write_ms {
            self.close_slow(slot);
        } else if connection.ping == Ping::Silent && now.mono_ms >= connection.ping_ms - interval_ms + pong_ms {
            self.close(slot, Close::PingTimeout);
        } else if connection.session.restoring().is_some_and(|(until_ms, _)| now.mono_ms >= until_ms) {
            self.give_up_restoring(slot);
        } else if now.mono_ms + ping_lead_ms >= connection.ping_ms {
            if connection.outbox.format().has_answers() {
                connection.ping = Ping::Silent;
            }
            connection.ping_ms = now.mono_ms + interval_ms;
            self.note_ping(slot);
            let ping = self.connections[slot].outbox.format().ping(&ping_payload(now.mono_ms));
            self.queue_outbound(slot, Lane::CONTROL, ping);
            self.send_positions(slot);
        }
        let connection = &mut self.connections[slot];
        connection.wake_ms = next_wake_ms(connection, &self.rules, now);
        Wake::At(connection.wake_ms)
    }

    /// Tells a client that its token has expired, and how long it has to send a new one.
    fn tell_of_expiry(&mut self, slot: Slot, left_ms: u64) {
        let how = match self.connections[slot].outbox.format().has_answers() {
            true => "send a refresh with a new one",
            false => "come back with a new one",
        };
        let message = format!("the token has expired; {how} within {} s", left_ms.div_ceil(1_000));
        self.carry_out(slot, &mut vec![refuse(ErrorCode::TokenExpired, &message, None, None)]);
    }

    /// Handles a pong, which has the payload of the ping. Other pongs are unsolicited (RFC 6455 §5.5.3) or too late to
    /// be used.
    pub(crate) fn pong(&mut self, slot: Slot, payload: &[u8], now: Now) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let sent_ms = connection.ping_ms.saturating_sub(self.rules.limits.ping_interval_ms);
        if connection.ping == Ping::Answered || payload != ping_payload(sent_ms) {
            return;
        }
        connection.ping = Ping::Answered;
        if let Some(confirmation) = &mut connection.confirmation {
            confirmation.pong();
        }
        let rtt_ms = now.mono_ms.saturating_sub(sent_ms).max(1);
        connection.rtt_ms = NonZeroU16::new(u16::try_from(rtt_ms).unwrap_or(u16::MAX));
        self.counters.rtt.record(rtt_ms * 1_000, 1);
    }

    /// Sends positions for scopes in which nothing passed the client's filter. Otherwise the position of a quiet topic
    /// would become so old that a false gap follows.
    fn send_positions(&mut self, slot: Slot) {
        let mut frames = Vec::new();
        if self.connections[slot].is_conflating {
            return; // Its kept messages have not been sent yet.
        }
        for subscription in &mut self.connections[slot].session.subscriptions {
            let scope = &subscription.pattern.scope;
            let Some(position) = self.subscriptions.top(scope) else { continue };
            if !subscription.live || position <= subscription.position_sent {
                continue;
            }
            (subscription.position_sent, subscription.floor) = (position, subscription.floor.max(position));
            let channel = subscription.pattern.to_string().into();
            frames.push((self.rules.lane(scope), ServerFrame::Position { channel, position }));
        }
        for (lane, frame) in frames {
            self.queue(slot, lane, &frame);
        }
    }
}

/// The low 16 bits of the time, which identify the ping.
fn ping_payload(sent_ms: u64) -> [u8; 2] {
    (sent_ms as u16).to_be_bytes()
}

fn next_wake_ms(connection: &Connection, rules: &Rules, now: Now) -> u64 {
    let limits = &rules.limits;
    let Limits { ping_interval_ms, pong_timeout_ms, write_timeout_ms, .. } = *limits;
    if connection.state != ConnectionState::Open {
        return now.mono_ms + close_timeout_ms(connection);
    }
    let silent_ms = match connection.ping {
        Ping::Silent => connection.ping_ms - ping_interval_ms + pong_timeout_ms,
        Ping::Answered | Ping::Alive => u64::MAX,
    };
    let stuck_ms = match connection.blocked {
        true => connection.blocked_ms + write_timeout_ms,
        false => u64::MAX,
    };
    let token_ms = match connection.session.expiry_due_ms(rules) {
        None => connection.session.hello_by_ms(),
        Some(due_ms) => now.mono_ms.saturating_add(due_ms.saturating_sub(now.unix_ms)),
    };
    let restore_ms = connection.session.restoring().map_or(u64::MAX, |(until_ms, _)| until_ms);
    let ping_ms = connection.ping_ms.saturating_sub(limits.ping_lead_ms());
    let due_ms = ping_ms.min(restore_ms).min(silent_ms).min(stuck_ms).min(token_ms);
    due_ms.min(now.mono_ms + span_ms(limits.timer_grain_ms()))
}
