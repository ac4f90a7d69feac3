//! The format of one connection, and what it has to remember for it.

use wire::{Close, Opcode, ServerFrame, WebSocketFrame};

use crate::protocol::outbound::{Frame, Outbound};

/// A protocol and a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `tidegate.v1` over WebSocket.
    WebSocket,
}

/// Encodes for one connection.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// A WebSocket needs no memory: each frame stands for itself.
    WebSocket,
}

impl Encoder {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::WebSocket => Format::WebSocket,
        }
    }

    /// The bytes of an entry.
    pub(crate) fn bytes<'o>(&self, outbound: &'o Outbound) -> &'o [u8] {
        match (outbound, self) {
            (Outbound::Message(message), Self::WebSocket) => message.websocket(),
            (Outbound::Frame(frame), _) => frame.bytes(),
        }
    }
}

impl Format {
    /// Whether the peer answers pings and close frames.
    pub(crate) fn has_answers(self) -> bool {
        match self {
            Self::WebSocket => true,
        }
    }

    /// Encodes a reply.
    pub(crate) fn reply(self, reply: &ServerFrame<'_>) -> Outbound {
        match self {
            Self::WebSocket => {
                let frame = WebSocketFrame::build(Opcode::Text, 256, |out| reply.write_json(out));
                Outbound::Frame(Frame::new(frame.into_bytes()))
            }
        }
    }

    /// A sign of life that the peer answers with the same payload, if it answers at all.
    pub(crate) fn ping(self, payload: &[u8]) -> Outbound {
        match self {
            Self::WebSocket => control(Opcode::Ping, payload),
        }
    }

    /// The transport's own end, behind the `bye`; none where the end of the stream says it all.
    pub(crate) fn close(self, close: Close) -> Option<Outbound> {
        match self {
            // RFC 6455 §5.5.1
            Self::WebSocket => {
                let payload = [&close.code().to_be_bytes(), close.reason().as_bytes()].concat();
                Some(control(Opcode::Close, &payload))
            }
        }
    }
}

/// A WebSocket control frame (RFC 6455 §5.5).
pub(crate) fn control(opcode: Opcode, payload: &[u8]) -> Outbound {
    Outbound::Frame(Frame::new(WebSocketFrame::new(opcode, payload).into_bytes()))
}
