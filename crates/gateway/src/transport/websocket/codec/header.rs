//! The header of a client's frame (RFC 6455 §5.2).

use super::mask::Mask;
use super::message::MessageKind;
use super::violation::Violation;

/// Longest payload of a control frame, in bytes (§5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// Two bytes, a length of eight bytes, and the mask.
const HEADER_BYTES_MAX: usize = 14;

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Data(Data),
    Control(Control),
}

/// The type of a frame that belongs to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Begin(MessageKind),
    Continue,
}

/// The type of a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Close,
    Ping,
    Pong,
}

/// The header of one frame. It has been checked as far as possible without the previous frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    /// Whether this is the last frame of its message. Always true for a control frame.
    pub(super) fin: bool,
    pub(super) mask: Mask,
    /// The length that the header claims, in bytes.
    pub(super) payload_bytes: u64,
}

impl Header {
    /// Parses the header at the start of `bytes`. Returns it with its length, or `None` if more bytes are needed.
    ///
    /// Every check is made at the first byte that can fail it. So the result does not depend on how the stream was
    /// split.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let fin = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0x0 => Opcode::Data(Data::Continue),
            0x1 => Opcode::Data(Data::Begin(MessageKind::Text)),
            0x2 => Opcode::Data(Data::Begin(MessageKind::Binary)),
            0x8 => Opcode::Control(Control::Close),
            0x9 => Opcode::Control(Control::Ping),
            0xa => Opcode::Control(Control::Pong),
            reserved => return Err(Violation::ReservedOpcode(reserved)),
        };
        let control = matches!(opcode, Opcode::Control(_));
        if control && !fin {
            return Err(Violation::ControlFragmented);
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Violation::NotMasked);
        }
        let short = second & 0x7f;
        if control && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }

        let Some((payload_bytes, behind)) = payload_bytes(short, &bytes[2..])? else { return Ok(None) };
        let Some(&key) = behind.first_chunk() else { return Ok(None) };
        let header = Self { opcode, fin, mask: Mask::new(key), payload_bytes };
        Ok(Some((header, bytes.len() - behind.len() + key.len())))
    }
}

/// The payload length, whose second header byte is `short`, and the bytes after it.
fn payload_bytes(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match short {
        126 => {
            let Some((length, behind)) = bytes.split_first_chunk() else { return Ok(None) };
            let length = u16::from_be_bytes(*length);
            if length < 126 {
                return Err(Violation::LengthNotMinimal);
            }
            Ok(Some((u64::from(length), behind)))
        }
        127 => {
            let Some((length, behind)) = bytes.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            if length <= u64::from(u16::MAX) {
                return Err(Violation::LengthNotMinimal);
            }
            if length >> 63 != 0 {
                return Err(Violation::LengthTopBit);
            }
            Ok(Some((length, behind)))
        }
        length => Ok(Some((u64::from(length), bytes))),
    }
}

/// The start of a header whose rest has not arrived: at most 13 bytes, so it needs no heap.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderBytes {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the next bytes of the stream. Returns the header if it is complete, and how many of `bytes` belong to it.
    /// While it is incomplete, all of them do.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let before = usize::from(self.len);
        let added = bytes.len().min(HEADER_BYTES_MAX - before);
        let len = before + added;
        self.bytes[before..len].copy_from_slice(&bytes[..added]);
        let header = Header::parse(&self.bytes[..len])?;
        // Fits: it is at most HEADER_BYTES_MAX.
        self.len = len as u8;
        Ok(header.map(|(header, size)| (header, size - before)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Control, Data, Header, MessageKind, Opcode, Violation};

    fn refused(bytes: &[u8]) -> Violation {
        Header::parse(bytes).expect_err("must be refused")
    }

    fn parsed(bytes: &[u8]) -> (Opcode, bool, u64, usize) {
        let (header, size) = Header::parse(bytes).expect("must pass").expect("is whole");
        (header.opcode, header.fin, header.payload_bytes, size)
    }

    #[test]
    fn the_three_forms_of_a_length() {
        let text = Opcode::Data(Data::Begin(MessageKind::Text));
        let binary = Opcode::Data(Data::Begin(MessageKind::Binary));
        assert_eq!(parsed(b"\x81\x85\x01\x02\x03\x04hello"), (text, true, 5, 6));
        assert_eq!(parsed(b"\x01\xfd\x01\x02\x03\x04"), (text, false, 125, 6));
        assert_eq!(parsed(b"\x82\xfe\x00\x7e\x01\x02\x03\x04"), (binary, true, 126, 8));
        assert_eq!(parsed(b"\x82\xfe\xff\xff\x01\x02\x03\x04"), (binary, true, 65_535, 8));
        assert_eq!(
            parsed(b"\x80\xff\0\0\0\0\0\x01\0\0\x01\x02\x03\x04"),
            (Opcode::Data(Data::Continue), true, 65_536, 14)
        );
        assert_eq!(parsed(b"\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0").2, u64::MAX >> 1);
        assert_eq!(parsed(b"\x8a\x80\0\0\0\0"), (Opcode::Control(Control::Pong), true, 0, 6));
    }

    #[test]
    fn a_length_takes_as_few_bytes_as_it_needs() {
        assert_eq!(refused(b"\x82\xfe\x00\x7d"), Violation::LengthNotMinimal);
        assert_eq!(refused(b"\x82\xfe\x00\x00"), Violation::LengthNotMinimal);
        assert_eq!(refused(b"\x82\xff\0\0\0\0\0\0\xff\xff"), Violation::LengthNotMinimal);
        assert_eq!(refused(b"\x82\xff\x80\0\0\0\0\0\0\0"), Violation::LengthTopBit);
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_at_the_first_byte() {
        for first in 0..=u8::MAX {
            let outcome = Header::parse(&[first]).map(|header| header.is_none());
            let expected = match (first & 0x70, first & 0x0f) {
                (0, 0..=2) => Ok(true),
                (0, 8..=10) if first & 0x80 == 0 => Err(Violation::ControlFragmented),
                (0, 8..=10) => Ok(true),
                (0, opcode) => Err(Violation::ReservedOpcode(opcode)),
                _ => Err(Violation::ReservedBits),
            };
            assert_eq!(outcome, expected, "{first:#04x}");
        }
    }

    #[test]
    fn a_mask_and_short_control_frames_are_demanded_at_the_second_byte() {
        assert_eq!(refused(b"\x81\x05"), Violation::NotMasked);
        assert_eq!(refused(b"\x88\x00"), Violation::NotMasked);
        assert!(Header::parse(b"\x89\xfd").is_ok());
        assert_eq!(refused(b"\x89\xfe"), Violation::ControlTooLong);
        assert_eq!(refused(b"\x88\xff"), Violation::ControlTooLong);
    }
}
