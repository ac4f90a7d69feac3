//! What an outbox holds.

use std::sync::Arc;

use wire::Position;

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

/// An event that moves one channel's position.
#[derive(Debug)]
pub(crate) struct Positioned {
    pub(crate) channel: Box<str>,
    pub(crate) position: Position,
    /// It is a `subscribed` that does not resume: a `gap` follows it if the client named a position.
    pub(crate) is_afresh: bool,
    /// From the end of the id's head on.
    pub(crate) body: Box<[u8]>,
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

const _: () = assert!(size_of::<Outbound>() == 16);
