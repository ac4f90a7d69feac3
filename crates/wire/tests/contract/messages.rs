//! What publishers store and receivers get: every case of `messages.json`.

use serde_json::Value;
use wire::{BadMessage, Families, Message, Position, TenantId, Timestamp};

use crate::vectors::{Vectors, hex};

#[test]
fn messages_are_delivered_as_frozen() {
    let (families, tenant) = (Families::default(), TenantId::default());
    for case in Vectors::load("messages.json").cases("delivered") {
        let channel = families.parse_channel(&tenant, case.text("channel")).unwrap();
        let position = case.find_text("position").map(|text| text.parse::<Position>().unwrap());
        let stored = case.bytes("stored");
        let message = Message::parse(&stored).unwrap_or_else(|bad| panic!("{}: {bad}", case.at));
        let time = Timestamp(case.number("time_ms"));
        let (mut got, expected) = (Vec::new(), case.bytes("delivered"));
        message.write(&channel.scope, channel.topic(), time, position, &mut got);
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected), "{}", case.at);
        assert_eq!(hex(&got), hex(&expected), "{}", case.at);
        let is_binary = case.get("delivered").is_none();
        assert_eq!(message.is_binary(), is_binary, "{}: text stays text, binary binary", case.at);
        says_the_same(&got, &case.at, channel.to_string().as_str(), position);
    }
}

/// Reads a delivered message as a client does.
fn says_the_same(frame: &[u8], at: &str, channel: &str, position: Option<Position>) {
    let json = match frame {
        [1, high, low, rest @ ..] => &rest[..usize::from(u16::from_be_bytes([*high, *low]))],
        text => text,
    };
    let value: Value = serde_json::from_slice(json).unwrap_or_else(|e| panic!("{at}: {e}"));
    assert_eq!(value["channel"], channel, "{at}");
    assert_eq!(value["position"].as_str(), position.map(|p| p.to_string()).as_deref(), "{at}");
    assert!(value["timestamp"].is_string(), "{at}: a message has a timestamp");
}

#[test]
fn what_is_no_message_is_left_out() {
    for case in Vectors::load("messages.json").cases("left_out") {
        let stored = case.bytes("stored");
        let because = match Message::parse(&stored) {
            Ok(message) => panic!("{}: was taken for {message:?}", case.at),
            Err(BadMessage::Json(_)) => "json",
            Err(BadMessage::Type) => "type",
            Err(BadMessage::Timestamp) => "timestamp",
            Err(BadMessage::Binary) => "binary",
        };
        assert_eq!(because, case.text("because"), "{}", case.at);
    }
}

/// A header that fits two bytes' length when stored, and no more once channel and position are in it, made a frame
/// whose length was wrong.
#[test]
fn a_binary_header_leaves_room_for_what_a_gateway_adds() {
    let stored = |id_bytes: usize| {
        let header = format!(r#"{{"type":"x","correlation_id":"{}"}}"#, "i".repeat(id_bytes));
        [&[1], &u16::try_from(header.len()).unwrap().to_be_bytes()[..], header.as_bytes(), b"payload"].concat()
    };
    let name = "n".repeat(wire::NAME_BYTES_MAX);
    let families = Families::new(vec![wire::FamilyShape { name: name.clone(), keyed: false }]);
    let channel = families.parse_channel(&TenantId::parse(&name).unwrap(), &format!("{name}:{}", &name[1..])).unwrap();
    let mut taken = 0;
    for id_bytes in (60_000..65_500).step_by(7) {
        let stored = stored(id_bytes);
        let Ok(message) = Message::parse(&stored) else { continue };
        taken = id_bytes;
        let position = Position::new(u64::MAX, u64::MAX);
        let mut delivered = Vec::new();
        message.write(&channel.scope, channel.topic(), Timestamp(0), Some(position), &mut delivered);
        says_the_same(&delivered, "long header", &channel.to_string(), Some(position));
        assert!(delivered.ends_with(b"payload"));
    }
    assert!((64_000..65_400).contains(&taken), "the longest header taken had an id of {taken} bytes");
}

#[test]
fn no_message_takes_a_control_type() {
    for kind in crate::tables::client_types().iter().chain(crate::tables::server_types()) {
        let stored = format!(r#"{{"type":"{kind}"}}"#);
        assert!(matches!(Message::parse(stored.as_bytes()), Err(BadMessage::Type)), "{kind} passes for a message");
    }
}
