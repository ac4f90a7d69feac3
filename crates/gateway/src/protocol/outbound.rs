//! What an outbox holds.

use std::sync::Arc;

use crate::protocol::event_stream::Positioned;
use crate::protocol::outgoing::Outgoing;

/// Finished bytes of one format. Clones share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame(Arc<Box<[u8]>>);

impl Frame {
    pub(crate) fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Arc::new(bytes.into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One entry of an outbox.
#[derive(Debug, Clone)]
pub(crate) enum Outbound {
    /// A message. It knows its scope and position, by which it can be dropped and read again.
    Message(Outgoing),
    /// Anything else, in the format of its connection. It is never dropped.
    Frame(Frame),
    /// An event that moves a channel's position. It is never dropped.
    Positioned(Arc<Positioned>),
    /// A message whose id stands before it already. It is never dropped.
    EventBody(Outgoing),
}

impl Outbound {
    /// As event streams have it, behind the head of its id.
    pub(crate) fn event_bytes(&self) -> &[u8] {
        match self {
            Self::Message(message) | Self::EventBody(message) => message.event_body(),
            Self::Positioned(event) => event.body(),
            Self::Frame(frame) => frame.bytes(),
        }
    }

    /// The same event when its id has been written.
    pub(crate) fn into_body(self) -> Self {
        match self {
            Self::Message(message) => Self::EventBody(message),
            Self::Positioned(event) => Self::Frame(Frame::new(event.body())),
            other => other,
        }
    }
}

const _: () = assert!(size_of::<Outbound>() == 16);
