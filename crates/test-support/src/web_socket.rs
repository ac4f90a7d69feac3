//! The bytes that a WebSocket client writes, for clients that must see or break what a library hides.

use std::fmt::Display;

/// The mask prevents proxies from reading a client's bytes as HTTP. On loopback any constant does that. Zero is not
/// used, because the server would then have nothing to unmask.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x17, 0x9E];

/// A request to upgrade `/ws`, with additional header lines that each end in `\r\n`. The key is the example of RFC 6455
/// §1.3. It need not be random, because nothing between these clients and a gateway caches.
pub fn upgrade_request(host: impl Display, headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A complete frame as a client must send it: masked (RFC 6455 §5.3).
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_twice_gives_the_payload_back() {
        for (len, header) in [(0, 2), (1, 2), (125, 2), (126, 4), (300, 4), (65_535, 4), (65_536, 10)] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let frame = client_frame(1, &payload);
            assert_eq!((frame[0], frame[1] & 0x80), (0x81, 0x80), "a whole frame, and the mask bit");
            let unmasked = frame[header + 4..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            assert!(unmasked.eq(payload), "{len}");
        }
    }
}
