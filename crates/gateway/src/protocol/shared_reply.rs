//! A reply that goes to many connections.

use wire::ServerFrame;

use crate::protocol::encoder::Format;
use crate::protocol::outbound::Outbound;

/// Encodes a reply once for each format in use.
#[derive(Debug)]
pub(crate) struct SharedReply<'f> {
    reply: ServerFrame<'f>,
    encoded: Vec<(Format, Outbound)>,
}

impl<'f> SharedReply<'f> {
    pub(crate) fn new(reply: ServerFrame<'f>) -> Self {
        Self { reply, encoded: Vec::new() }
    }

    pub(crate) fn encode(&mut self, format: Format) -> Outbound {
        if let Some((_, outbound)) = self.encoded.iter().find(|(other, _)| *other == format) {
            return outbound.clone();
        }
        let outbound = format.reply(&self.reply);
        self.encoded.push((format, outbound.clone()));
        outbound
    }
}
