//! Frames as a client must send them: masked (RFC 6455 §5.3).

use crate::frame_walker::TEXT;

/// The mask serves to keep proxies from reading client bytes as HTTP; on loopback any constant does, but not zero,
/// which would spare the server the work of unmasking.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x17, 0x9E];

/// A whole masked frame of at most 65,535 bytes of payload.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).expect("scenarios send short frames") {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The `subscribe` frame for one channel.
pub(super) fn subscribe(channel: &str) -> Vec<u8> {
    masked(TEXT, format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_twice_gives_the_payload_back() {
        for len in [0, 1, 125, 126, 300] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let frame = masked(TEXT, &payload);
            let header = if len < 126 { 2 } else { 4 };
            assert_eq!(frame[1] & 0x80, 0x80, "the mask bit");
            let unmasked: Vec<u8> =
                frame[header + 4..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(unmasked, payload);
        }
    }

    #[test]
    fn the_subscribe_frame_is_one_the_contract_knows() {
        let frame = subscribe("user:u7");
        let text: Vec<u8> = frame[6..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        let parsed = wire::ClientFrame::parse(&text).expect("a frame of the contract");
        assert!(matches!(parsed.body, wire::ClientBody::Subscribe(resume) if resume.channel == "user:u7"));
    }
}
