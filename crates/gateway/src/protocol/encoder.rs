//! The format of one connection, and the state that encoding needs.

use wire::{Close, Opcode, ServerFrame, WebSocketFrame};

use crate::protocol::event_stream::{self, EventStream};
use crate::protocol::outbound::{Frame, Outbound};

/// A protocol and a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `tidegate.v1` over WebSocket.
    WebSocket,
    /// `tidegate.v1` as server-sent events.
    EventStream,
}

/// The encoder of one connection.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// A WebSocket needs no state: each frame is independent.
    WebSocket,
    /// Each event has an id that says how far the client has received its channels.
    EventStream(Box<EventStream>),
}

impl Encoder {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::WebSocket => Format::WebSocket,
            Self::EventStream(_) => Format::EventStream,
        }
    }

    /// How many entries of the outbox keep their place, because ids that are already written refer to them.
    pub(crate) fn pinned(&self) -> usize {
        match self {
            Self::WebSocket => 0,
            Self::EventStream(stream) => stream.pinned.into(),
        }
    }

    pub(crate) fn pin(&mut self, count: usize) {
        if let Self::EventStream(stream) = self {
            stream.pinned = count as u8;
        }
    }

    /// The bytes of an entry. For an event they follow the head of its id.
    pub(crate) fn bytes<'o>(&self, outbound: &'o Outbound) -> &'o [u8] {
        match (outbound, self) {
            (Outbound::Message(message), Self::WebSocket) => message.websocket(),
            (outbound, _) => event_stream::bytes(outbound),
        }
    }
}

impl Format {
    /// Whether clients of this format answer pings and close frames.
    pub(crate) fn has_answers(self) -> bool {
        match self {
            Self::WebSocket => true,
            Self::EventStream => false,
        }
    }

    /// Encodes a reply, which is one entry of an outbox.
    pub(crate) fn reply(self, reply: &ServerFrame<'_>) -> Outbound {
        match self {
            Self::WebSocket => {
                let frame = WebSocketFrame::build(Opcode::Text, 256, |out| reply.write_json(out));
                Outbound::Frame(Frame::new(frame.into_bytes()))
            }
            Self::EventStream => event_stream::reply(reply),
        }
    }

    /// Encodes a ping. A client that answers it repeats the payload.
    pub(crate) fn ping(self, payload: &[u8]) -> Outbound {
        match self {
            Self::WebSocket => control(Opcode::Ping, payload),
            Self::EventStream => event_stream::ping(),
        }
    }

    /// Encodes the transport's own close, which follows the `bye`. `None` for transports where the end of the stream is
    /// enough.
    pub(crate) fn close(self, close: Close) -> Option<Outbound> {
        match self {
            // The payload is a code and a reason (RFC 6455 §5.5.1).
            Self::WebSocket => {
                let payload = [&close.code().to_be_bytes(), close.reason().as_bytes()].concat();
                Some(control(Opcode::Close, &payload))
            }
            Self::EventStream => None,
        }
    }
}

/// A WebSocket control frame (RFC 6455 §5.5).
pub(crate) fn control(opcode: Opcode, payload: &[u8]) -> Outbound {
    Outbound::Frame(Frame::new(WebSocketFrame::new(opcode, payload).into_bytes()))
}
