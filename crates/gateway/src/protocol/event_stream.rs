//! `tidegate.v1` as server-sent events.
//!
//! ```text
//!   id: CURSOR          the head belongs to the connection, the position to the event; both are written with the event
//!   event: gap          absent for messages
//!   data: {…}           the JSON of a WebSocket client's frame
//! ```
//!
//! An id says what the client has received once it has received the event. It is made when the event is written, not
//! when it is queued: queued events may be overtaken, or dropped and read again.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wire::{Close, Pattern, Position, ServerFrame, SessionId, split_binary};

use crate::protocol::cursor::write_head;
use crate::protocol::outbound::{Frame, Outbound, Positioned};
use crate::protocol::outgoing::Outgoing;
use crate::transport::sse::{COMMENT, write_event, write_retry};

/// When a client reconnects after its stream ended without a reason, in milliseconds: after this time plus a random
/// part of the same length.
const RETRY_SPREAD_MS: u64 = 500;

/// When a client reconnects whose user has too many connections, in milliseconds. Another connection has to end first.
const RETRY_TOO_MANY_MS: u64 = 30_000;

/// When a client reconnects that was told not to, in milliseconds. Only its page can stop a browser from reconnecting.
const RETRY_NEVER_MS: u64 = 3_600_000;

/// How far the client of one connection has received each of its channels.
#[derive(Debug)]
pub(crate) struct EventStream {
    session: Box<str>,
    channels: Vec<Subscribed>,
    /// How many entries of the outbox are written with their ids and not yet taken by the socket.
    pub(crate) pinned: u8,
}

#[derive(Debug)]
struct Subscribed {
    channel: Box<str>,
    pattern: Pattern,
    position: Option<Position>,
    /// Whether the event that is being written moves this channel.
    is_moved: bool,
}

impl EventStream {
    /// The state of a session with these subscriptions, at the positions that its client named.
    pub(crate) fn new(session: SessionId, channels: impl Iterator<Item = (Pattern, Option<Position>)>) -> Self {
        let subscribed = |(pattern, position): (Pattern, _)| {
            let channel = pattern.to_string().into();
            Subscribed { channel, pattern, position, is_moved: false }
        };
        Self { session: session.to_string().into(), channels: channels.map(subscribed).collect(), pinned: 0 }
    }

    /// Appends the head of an event's id, if the event has one. Call it when the event is written.
    pub(crate) fn write_id(&mut self, outbound: &Outbound, out: &mut Vec<u8>) {
        match outbound {
            Outbound::Message(message) => {
                let Some(position) = message.position() else { return };
                self.move_to(position, out, |subscribed| {
                    let Pattern { scope, filter } = &subscribed.pattern;
                    scope == message.scope() && filter.matches(message.topic())
                });
            }
            // A `gap` follows such a `subscribed`, and the stream may break between the two. If the id had already
            // moved past the gap, the client would never learn of it.
            Outbound::Positioned(event) => self.move_to(event.position, out, |subscribed| {
                subscribed.channel == event.channel && !(event.is_afresh && subscribed.position.is_some())
            }),
            Outbound::EventBody(_) | Outbound::Frame(_) => {}
        }
    }

    /// Moves channels to a position. A channel keeps the larger of the old and the new position, like WebSocket clients
    /// do.
    fn move_to(&mut self, position: Position, out: &mut Vec<u8>, is_meant: impl Fn(&Subscribed) -> bool) {
        let mut is_any = false;
        for subscribed in &mut self.channels {
            subscribed.is_moved = subscribed.position <= Some(position) && is_meant(subscribed);
            is_any |= subscribed.is_moved;
        }
        if !is_any {
            // The body begins with a position. Clients ignore a line with an empty field name.
            return out.push(b':');
        }
        out.extend_from_slice(b"id: ");
        let others = self.channels.iter().filter(|s| !s.is_moved).map(|s| (&*s.channel, s.position));
        let moved = self.channels.iter().filter(|s| s.is_moved).map(|s| &*s.channel);
        write_head(&self.session, others, moved, out);
        for subscribed in self.channels.iter_mut().filter(|s| s.is_moved) {
            subscribed.position = Some(position);
        }
    }
}

/// The bytes of an entry, after the head of its id.
pub(crate) fn bytes(outbound: &Outbound) -> &[u8] {
    match outbound {
        Outbound::Message(message) | Outbound::EventBody(message) => message.event_body(message_body),
        Outbound::Positioned(event) => &event.body,
        Outbound::Frame(frame) => frame.bytes(),
    }
}

/// The same entry after its id has been written.
pub(crate) fn without_id(outbound: Outbound) -> Outbound {
    match outbound {
        Outbound::Message(message) => Outbound::EventBody(message),
        Outbound::Positioned(event) => Outbound::Frame(Frame::new(&*event.body)),
        other => other,
    }
}

/// A message after the head of its id. These bytes are the same for all receivers.
fn message_body(message: &Outgoing) -> Box<[u8]> {
    let payload = message.payload();
    let mut body = Vec::with_capacity(payload.len() + 64);
    write_position(message.position(), &mut body);
    match message.is_binary().then(|| split_binary(payload)).flatten() {
        None => write_event(None, payload, &mut body),
        Some((header, bytes)) => {
            // The bytes of a binary message go into a field of their own, at the end of the object.
            let fields = header.strip_suffix(b"}").unwrap_or(header);
            let mut json = Vec::with_capacity(header.len() + bytes.len().div_ceil(3) * 4 + 24);
            json.extend_from_slice(fields);
            json.extend_from_slice(br#","payload_base64":""#);
            json.extend_from_slice(BASE64.encode(bytes).as_bytes());
            json.extend_from_slice(br#""}"#);
            write_event(None, &json, &mut body);
        }
    }
    body.into()
}

fn write_position(position: Option<Position>, out: &mut Vec<u8>) {
    if let Some(position) = position {
        out.extend_from_slice(format!("/{position}\n").as_bytes());
    }
}

/// Encodes a reply as one event, with the retry time that belongs to it.
pub(crate) fn reply(reply: &ServerFrame<'_>) -> Outbound {
    let moved = match reply {
        ServerFrame::Subscribed { channel, position, .. } => position.map(|position| (channel, position)),
        ServerFrame::Position { channel, position } => Some((channel, *position)),
        ServerFrame::Gap { channel, upto, .. } => upto.map(|upto| (channel, upto)),
        _ => None,
    };
    let mut body = Vec::with_capacity(256);
    write_position(moved.map(|(_, position)| position), &mut body);
    match reply {
        ServerFrame::Welcome(welcome) => write_retry(first_retry_ms(&welcome.session_id), &mut body),
        ServerFrame::Reconnect { after_ms } => write_retry(*after_ms, &mut body),
        ServerFrame::Error { retry_after_ms: Some(after_ms), .. } => write_retry(*after_ms, &mut body),
        ServerFrame::Bye { code, .. } if *code == Close::TooManyConnections.code() => {
            write_retry(RETRY_TOO_MANY_MS, &mut body);
        }
        ServerFrame::Bye { code, .. } if !Close::should_reconnect(*code) => write_retry(RETRY_NEVER_MS, &mut body),
        _ => {}
    }
    match reply {
        // This event is only an id. Browsers store it and dispatch no event.
        ServerFrame::Position { .. } => body.push(b'\n'),
        reply => {
            let mut json = Vec::with_capacity(256);
            reply.write_json(&mut json);
            write_event(Some(reply.kind()), &json, &mut body);
        }
    }
    match moved {
        Some((channel, position)) => {
            let (channel, body) = (Box::from(&**channel), body.into());
            let is_afresh = matches!(reply, ServerFrame::Subscribed { resumed: false, .. });
            Outbound::Positioned(Arc::new(Positioned { channel, position, is_afresh, body }))
        }
        None => Outbound::Frame(Frame::new(body)),
    }
}

/// The delay differs from session to session, so that the clients of a killed instance do not all reconnect at once.
fn first_retry_ms(session_id: &str) -> u64 {
    let random = session_id.bytes().take(8).fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    RETRY_SPREAD_MS + random % RETRY_SPREAD_MS
}

/// A comment that keeps the connection from being idle.
pub(crate) fn ping() -> Outbound {
    Outbound::Frame(Frame::new(COMMENT))
}

#[cfg(test)]
mod tests;
