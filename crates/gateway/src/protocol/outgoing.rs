//! A message on its way to the clients of this instance.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use wire::{Message, Opcode, Position, Scope, Timestamp, WebSocketFrame};

/// Messages of one publishing call; mostly one.
pub(crate) type Messages = SmallVec<[Outgoing; 1]>;

/// A message, encoded once for all its receivers on all shards. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Arc<Encodings>);

#[derive(Debug)]
struct Encodings {
    scope: Scope,
    /// UTF-8, a slice of what Redis sent.
    topic: Bytes,
    position: Option<Position>,
    /// The frame of WebSocket clients. Other formats are made from its payload.
    websocket: WebSocketFrame,
}

impl Outgoing {
    /// Encodes a message. `topic` has been checked to be UTF-8. `position` is absent for messages that never enter
    /// history: the broker was away, and they stay on this instance.
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
        Self(Arc::new(Encodings { scope: scope.clone(), topic, position, websocket }))
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

    /// The finished WebSocket frame.
    pub(crate) fn websocket(&self) -> &[u8] {
        self.0.websocket.bytes()
    }

    /// How many bytes it has, about, whatever the format: what budgets count.
    pub(crate) fn size(&self) -> usize {
        self.0.websocket.bytes().len()
    }
}
