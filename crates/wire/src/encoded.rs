//! Finished WebSocket frames (RFC 6455 §5.2, server to client: never masked).

use std::fmt;
use std::sync::Arc;

/// The opcodes a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// Close, with a code and a reason.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// Yes.
    Pong = 0xA,
}

/// One whole WebSocket frame, header included, that any number of sockets share.
///
/// Delivery takes only this type, so re-encoding a message per receiver cannot be written.
///
/// ```
/// use wire::{Encoded, Opcode};
/// let frame = Encoded::new(Opcode::Text, b"hi");
/// assert_eq!(frame.bytes(), [0x81, 2, b'h', b'i']);
/// assert_eq!(frame.payload(), b"hi");
/// let long = Encoded::new(Opcode::Binary, &[0; 70_000]);
/// assert_eq!(long.bytes().len() - long.payload().len(), 10);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded(Arc<[u8]>);

impl Encoded {
    /// Frames `payload`.
    #[must_use]
    pub fn new(opcode: Opcode, payload: &[u8]) -> Self {
        let mut builder = FrameBuilder::new(payload.len());
        builder.payload.extend_from_slice(payload);
        builder.finish(opcode)
    }

    /// Header and payload: what `write(2)` takes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The payload alone: what other codecs, such as server-sent events, share.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let header = match self.0[1] {
            0..=125 => 2,
            126 => 4,
            _ => 10,
        };
        &self.0[header..]
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({:#04x}, {:?})", self.0[0], String::from_utf8_lossy(self.payload()))
    }
}

/// Room for the longest header, then a payload under construction; framing it costs one copy.
pub(crate) struct FrameBuilder {
    pub(crate) payload: Vec<u8>,
}

impl FrameBuilder {
    const HEADER_MAX: usize = 10;

    pub(crate) fn new(capacity: usize) -> Self {
        let mut payload = Vec::with_capacity(Self::HEADER_MAX + capacity);
        payload.extend_from_slice(&[0; Self::HEADER_MAX]);
        Self { payload }
    }

    pub(crate) fn finish(mut self, opcode: Opcode) -> Encoded {
        let len = self.payload.len() - Self::HEADER_MAX;
        let first = 0x80 | opcode as u8;
        let start = match u16::try_from(len) {
            Ok(short) if short <= 125 => {
                self.payload[8..10].copy_from_slice(&[first, short as u8]);
                8
            }
            Ok(medium) => {
                self.payload[6..8].copy_from_slice(&[first, 126]);
                self.payload[8..10].copy_from_slice(&medium.to_be_bytes());
                6
            }
            Err(_) => {
                self.payload[0..2].copy_from_slice(&[first, 127]);
                self.payload[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                0
            }
        };
        Encoded(Arc::from(&self.payload[start..]))
    }
}
