//! Finds the WebSocket frames of a server (RFC 6455 §5.2) in bytes that can end anywhere. Pure.
//!
//! It reads headers and trusts payloads, because a receiver must cost far less than the server that it measures. The
//! gateway's own codec is tested elsewhere, against an independent codec.

use std::borrow::Cow;

/// A complete frame within a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The low four bits of the first byte.
    pub(crate) opcode: u8,
    /// The header and the payload, as received.
    pub(crate) bytes: &'a [u8],
    /// The payload without the header.
    pub(crate) payload: Cow<'a, [u8]>,
}

/// A frame that no measured server sends: fragmented, masked, with reserved bits or far too long; or an event that is
/// too long or has the wrong name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame;

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// The longest frame that the walker accepts: far above the messages of the scenarios, below the clients' buffer.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The first frame of `bytes`, or `None` if it is not complete yet.
pub(crate) fn next_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, BadFrame> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 || second & 0x80 != 0 {
        return Err(BadFrame);
    }
    let (header, len) = match second {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, u16::from_be_bytes([a, b]) as usize),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
            Some(len) => (10, usize::try_from(u64::from_be_bytes(len)).map_err(|_| BadFrame)?),
            None => return Ok(None),
        },
        short => (2, short as usize),
    };
    if len > FRAME_BYTES_MAX - header {
        return Err(BadFrame);
    }
    let Some(whole) = bytes.get(..header + len) else { return Ok(None) };
    Ok(Some(Frame { opcode: first & 0x0F, bytes: whole, payload: Cow::Borrowed(&whole[header..]) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Opcode, WebSocketFrame};

    /// Parses `stream` in two pieces, split at `cut`, and keeps a tail between them as the receivers do.
    fn walk_in_two(stream: &[u8], cut: usize) -> Vec<(u8, Vec<u8>)> {
        let (mut seen, mut tail) = (Vec::new(), Vec::new());
        for piece in [&stream[..cut], &stream[cut..]] {
            tail.extend_from_slice(piece);
            let mut at = 0;
            while let Some(frame) = next_frame(&tail[at..]).expect("the frames are valid") {
                seen.push((frame.opcode, frame.payload.to_vec()));
                at += frame.bytes.len();
            }
            tail.drain(..at);
        }
        assert!(tail.is_empty(), "bytes left over after cut {cut}");
        seen
    }

    #[test]
    fn frames_survive_a_cut_at_every_byte() {
        let payloads = [vec![], vec![b'a'; 125], vec![b'b'; 126], vec![b'c'; 300]];
        let mut stream: Vec<u8> = Vec::new();
        for payload in &payloads {
            stream.extend_from_slice(WebSocketFrame::new(Opcode::Text, payload).bytes());
        }
        stream.extend_from_slice(WebSocketFrame::new(Opcode::Ping, b"p").bytes());
        for cut in 0..=stream.len() {
            let seen = walk_in_two(&stream, cut);
            assert_eq!(seen.len(), 5, "cut {cut}");
            assert!(seen.iter().zip(&payloads).all(|(seen, sent)| seen == &(TEXT, sent.clone())), "cut {cut}");
            assert_eq!(seen[4], (PING, b"p".to_vec()), "cut {cut}");
        }
    }

    #[test]
    fn a_frame_is_handed_over_with_its_header() {
        let sent = WebSocketFrame::new(Opcode::Text, &[b'x'; 200]);
        let frame = next_frame(sent.bytes()).expect("valid").expect("complete");
        assert_eq!(frame.bytes, sent.bytes());
        assert_eq!(frame.payload, sent.payload());
    }

    #[test]
    fn headers_a_server_never_sends_are_refused() {
        assert_eq!(next_frame(&[0x01, 0]), Err(BadFrame), "a fragment");
        assert_eq!(next_frame(&[0xC1, 0]), Err(BadFrame), "a reserved bit");
        assert_eq!(next_frame(&[0x81, 0x80, 0, 0, 0, 0]), Err(BadFrame), "a masked frame");
        let mut endless = vec![0x82, 127];
        endless.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(next_frame(&endless), Err(BadFrame), "a frame longer than memory");
    }
}
