//! A message on its way to the clients of this instance.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::SmallVec;
use wire::{Message, Opcode, Position, Scope, Timestamp, WebSocketFrame};

/// Messages of one publish call. Usually one.
pub(crate) type Messages = SmallVec<[Outgoing; 1]>;

/// A message that is encoded once for all its receivers on all shards. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Arc<Encodings>);

#[derive(Debug)]
struct Encodings {
    scope: Scope,
    /// UTF-8, a slice of the bytes from Redis.
    topic: Bytes,
    position: Option<Position>,
    /// The WebSocket frame. Other formats are made from its payload.
    websocket: WebSocketFrame,
    is_binary: bool,
    /// The event for event streams, made when the first one needs it.
    event_body: OnceLock<Box<[u8]>>,
}

impl Outgoing {
    /// Encodes a message. `topic` has been checked to be UTF-8. `position` is absent for messages that never enter
    /// history: they were published while the broker was unreachable, and stay on this instance.
    pub(crate) fn new(
        message: &Message<'_>,
        scope: &Scope,
        topic: Bytes,
        published: Timestamp,
        position: Option<Position>,
    ) -> Self {
        let name = std::str::from_utf8(&topic).unwrap_or_default();
        let opcode = if message.is_binary() { Opcode::Binary } else { Opcode::Text };
        let websocket = WebSocketFrame::build(opcode, message.size_hint(scope, name), |out| {
            message.write(scope, name, published, position, out);
        });
        let (scope, is_binary, event_body) = (scope.clone(), message.is_binary(), OnceLock::new());
        Self(Arc::new(Encodings { scope, topic, position, websocket, is_binary, event_body }))
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.0.scope
    }

    pub(crate) fn topic(&self) -> &str {
        std::str::from_utf8(&self.0.topic).unwrap_or_default()
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The complete WebSocket frame.
    pub(crate) fn websocket(&self) -> &[u8] {
        self.0.websocket.bytes()
    }

    /// The JSON of a text message. For a binary message: the length of the header, the header and the bytes.
    pub(crate) fn payload(&self) -> &[u8] {
        self.0.websocket.payload()
    }

    pub(crate) fn is_binary(&self) -> bool {
        self.0.is_binary
    }

    /// The event for event streams, after the head of its id.
    pub(crate) fn event_body(&self, encode: fn(&Self) -> Box<[u8]>) -> &[u8] {
        self.0.event_body.get_or_init(|| encode(self))
    }

    /// Approximate size in bytes, whatever the format. Memory limits use this number.
    pub(crate) fn size(&self) -> usize {
        self.0.websocket.bytes().len()
    }
}
