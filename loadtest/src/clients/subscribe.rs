//! The frames that clients send.

use test_support::web_socket::client_frame;

use crate::frame_walker::TEXT;

/// The `subscribe` frame for one channel.
pub(super) fn subscribe(channel: &str) -> Vec<u8> {
    client_frame(TEXT, format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subscribe_frame_is_one_the_contract_knows() {
        let frame = subscribe("user:u7");
        let text: Vec<u8> = frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        let parsed = wire::ClientFrame::parse(&text).expect("a frame of the contract");
        assert!(matches!(parsed.body, wire::ClientBody::Subscribe(resume) if resume.channel == "user:u7"));
    }
}
