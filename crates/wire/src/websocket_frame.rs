//! Finished WebSocket frames (RFC 6455 §5.2, server to client: never masked).

use std::fmt;

/// The opcodes that a server sends (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// A close code and a reason; the last frame of a direction.
    Close = 0x8,
    /// Asks the peer for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

/// One whole WebSocket frame, header included.
///
/// ```
/// use wire::{Opcode, WebSocketFrame};
/// let frame = WebSocketFrame::new(Opcode::Text, b"hi");
/// assert_eq!(frame.bytes(), [0x81, 2, b'h', b'i']);
/// assert_eq!(frame.payload(), b"hi");
/// let long = WebSocketFrame::new(Opcode::Binary, &[0; 70_000]);
/// assert_eq!(long.bytes().len() - long.payload().len(), 10);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WebSocketFrame(Box<[u8]>);

/// A header has 2, 4 or 10 bytes.
const HEADER_BYTES_MAX: usize = 10;

impl WebSocketFrame {
    /// Frames `payload`.
    #[must_use]
    pub fn new(opcode: Opcode, payload: &[u8]) -> Self {
        Self::build(opcode, payload.len(), |out| out.extend_from_slice(payload))
    }

    /// Frames the payload that `write` appends, of about `capacity` bytes. The header costs one copy of the frame.
    pub fn build(opcode: Opcode, capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + capacity);
        bytes.extend_from_slice(&[0; HEADER_BYTES_MAX]);
        write(&mut bytes);
        let len = bytes.len() - HEADER_BYTES_MAX;
        let first = 0x80 | opcode as u8;
        let start = match u16::try_from(len) {
            Ok(short) if short <= 125 => {
                bytes[8..10].copy_from_slice(&[first, short as u8]);
                8
            }
            Ok(medium) => {
                bytes[6..8].copy_from_slice(&[first, 126]);
                bytes[8..10].copy_from_slice(&medium.to_be_bytes());
                6
            }
            Err(_) => {
                bytes[0..2].copy_from_slice(&[first, 127]);
                bytes[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                0
            }
        };
        Self(Box::from(&bytes[start..]))
    }

    /// Header and payload: what `write(2)` takes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The payload without its header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let header = match self.0[1] {
            0..=125 => 2,
            126 => 4,
            _ => HEADER_BYTES_MAX,
        };
        &self.0[header..]
    }

    /// Header and payload, given away.
    #[must_use]
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }
}

impl fmt::Debug for WebSocketFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocketFrame({:#04x}, {:?})", self.0[0], String::from_utf8_lossy(self.payload()))
    }
}
