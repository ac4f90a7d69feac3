//! The entries of an outbox.

use std::sync::Arc;

use wire::Position;

use crate::protocol::outgoing::Outgoing;

/// Encoded bytes of one format. Clones share them.
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

/// An event that moves the position of one channel.
#[derive(Debug)]
pub(crate) struct Positioned {
    pub(crate) channel: Box<str>,
    pub(crate) position: Position,
    /// Whether this is a `subscribed` that does not resume. A `gap` follows it if the client named a position.
    pub(crate) is_afresh: bool,
    /// The bytes after the head of the id.
    pub(crate) body: Box<[u8]>,
}

/// One entry of an outbox.
#[derive(Debug, Clone)]
pub(crate) enum Outbound {
    /// A message. Its scope and position allow it to be dropped and read again.
    Message(Outgoing),
    /// Anything else, in the format of its connection. It is never dropped.
    Frame(Frame),
    /// An event that moves a channel's position. It is never dropped.
    Positioned(Arc<Positioned>),
    /// A message whose id has already been written. It is never dropped.
    EventBody(Outgoing),
}

const _: () = assert!(size_of::<Outbound>() == 16);
