//! What an outbox holds.

use std::sync::Arc;

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
}

const _: () = assert!(size_of::<Outbound>() == 16);
