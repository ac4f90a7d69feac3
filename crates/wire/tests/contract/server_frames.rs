//! The frames that the gateway sends: every case of `server_frames.json` is read into the types of the code and written
//! back byte by byte. Also the WebSocket framing: every case of `websocket.json`.

use std::borrow::Cow;

use serde_json::Value;
use wire::{
    AckLevel, Close, ErrorCode, GapReason, Notice, Opcode, Position, PresenceMember, Restored, ServerFrame, Timestamp,
    WebSocketFrame, Welcome,
};

use crate::vectors::{Vectors, hex, unhex};

/// What a client is sent.
pub(crate) fn json(frame: &ServerFrame<'_>) -> String {
    let mut json = Vec::new();
    frame.write_json(&mut json);
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// Reads a control frame, as a client would, into the type from which the gateway writes it.
pub(crate) fn read(frame: &Value) -> Option<ServerFrame<'_>> {
    let payload = &frame["payload"];
    let channel = frame["channel"].as_str().map(Cow::Borrowed);
    let correlation_id = frame["correlation_id"].as_str().map(Cow::Borrowed);
    let position = |value: &Value| value.as_str().map(|text| text.parse::<Position>().expect("a position"));
    let number = |name: &str| payload[name].as_u64().expect("a number");
    let text = |name: &str| Cow::Borrowed(payload[name].as_str().expect("a text"));
    let flag = |name: &str| payload[name].as_bool().expect("true or false");
    Some(match frame["type"].as_str()? {
        "welcome" => ServerFrame::Welcome(read_welcome(payload)?),
        "restored" => {
            let channels = || {
                payload["channels"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Cow::Borrowed)
                    .collect()
            };
            let record = flag("found").then(|| Restored { repeats: flag("repeats"), channels: channels() });
            let session_id = payload.get("session_id").and_then(Value::as_str).map(Cow::Borrowed);
            ServerFrame::Restored { record, session_id, correlation_id }
        }
        "subscribed" => ServerFrame::Subscribed {
            channel: channel?,
            position: position(&frame["position"]),
            resumed: flag("resumed"),
            degraded: flag("degraded"),
            correlation_id,
        },
        "unsubscribed" => ServerFrame::Unsubscribed { channel: channel?, correlation_id },
        "ack" => {
            let level = AckLevel::ALL.into_iter().find(|level| level.as_str() == text("level"))?;
            let duplicate = payload.get("duplicate").is_some_and(|duplicate| duplicate == true);
            let position = position(&frame["position"]);
            ServerFrame::Ack { channel: channel?, position, level, duplicate, correlation_id }
        }
        "receipt" => {
            ServerFrame::Receipt { channel: channel?, position: position(&frame["position"])?, correlation_id }
        }
        "presence" | "joined" | "left" => read_presence(frame)?,
        "error" => ServerFrame::Error {
            code: ErrorCode::ALL.into_iter().find(|code| code.as_str() == text("code"))?,
            message: text("message"),
            channel,
            retry_after_ms: payload.get("retry_after_ms").and_then(Value::as_u64),
            correlation_id,
        },
        "refreshed" => ServerFrame::Refreshed { expires_in_ms: number("expires_in_ms"), correlation_id },
        "pong" => ServerFrame::Pong { correlation_id },
        "position" => ServerFrame::Position { channel: channel?, position: position(&frame["position"])? },
        "gap" => ServerFrame::Gap {
            channel: channel?,
            after: position(&payload["after"]),
            upto: position(&payload["upto"]),
            reason: GapReason::ALL.into_iter().find(|reason| reason.as_str() == text("reason"))?,
            certain: flag("certain"),
        },
        "degraded" => ServerFrame::Degraded { degraded: flag("degraded") },
        "reconnect" => ServerFrame::Reconnect { after_ms: number("after_ms") },
        "notice" => ServerFrame::Notice(Notice::parse(&payload.to_string()).expect("a notice")),
        "bye" => ServerFrame::Bye { code: u16::try_from(number("code")).ok()?, reason: text("reason") },
        _ => return None,
    })
}

/// Reads the payload of a `welcome` for [`read`].
fn read_welcome(payload: &Value) -> Option<Welcome<'_>> {
    let number = |name: &str| payload[name].as_u64().expect("a number");
    let text = |name: &str| Cow::Borrowed(payload[name].as_str().expect("a text"));
    Some(Welcome {
        session_id: text("session_id"),
        user: text("user"),
        tenant: text("tenant"),
        instance: text("instance"),
        expires_in_ms: number("expires_in_ms"),
        ping_interval_ms: number("ping_interval_ms"),
        message_bytes_max: usize::try_from(number("message_bytes_max")).ok()?,
        messages_per_second: u32::try_from(number("messages_per_second")).ok()?,
        channels_max: usize::try_from(number("channels_max")).ok()?,
    })
}

/// Reads the presence frames for [`read`].
fn read_presence(frame: &Value) -> Option<ServerFrame<'_>> {
    let (channel, payload) = (Cow::Borrowed(frame["channel"].as_str()?), &frame["payload"]);
    let count = usize::try_from(payload["count"].as_u64()?).ok()?;
    Some(match frame["type"].as_str()? {
        "presence" => ServerFrame::Presence {
            channel,
            count,
            members: payload["members"].as_array()?.iter().map(read_member).collect(),
            stale: payload["stale"].as_bool()?,
            correlation_id: frame["correlation_id"].as_str().map(Cow::Borrowed),
        },
        "joined" => ServerFrame::Joined { channel, member: read_member(payload), count },
        "left" => ServerFrame::Left { channel, user: payload["user"].as_str()?.into(), count },
        _ => return None,
    })
}

/// Reads one member. All members of the vectors have the same `since`.
fn read_member(member: &Value) -> PresenceMember<'_> {
    assert_eq!(member["since"], "2026-11-20T12:00:00.000Z");
    let since = Timestamp(1_795_176_000_000);
    let info = member.get("info").map(|info| info.to_string().into());
    PresenceMember { user: member["user"].as_str().expect("a name").into(), since, info }
}

#[test]
fn frames_are_the_frozen_bytes() {
    let vectors = Vectors::load("server_frames.json");
    for case in vectors.cases("frames") {
        let text = case.text("text");
        let value: Value = serde_json::from_str(text).unwrap();
        let frame = read(&value).unwrap_or_else(|| panic!("{}: not a frame of this gateway", case.at));
        assert_eq!(json(&frame), text, "{}", case.at);
        assert_eq!(value["type"], frame.kind(), "{}", case.at);
        assert!(value.get("timestamp").is_none(), "{}: only messages have a timestamp", case.at);
    }
}

#[test]
fn every_type_error_code_and_gap_reason_that_a_client_must_know_is_a_frame() {
    let vectors = Vectors::load("server_frames.json");
    let values: Vec<Value> =
        vectors.cases("frames").iter().map(|case| serde_json::from_str(case.text("text")).unwrap()).collect();
    for kind in crate::tables::server_types() {
        assert!(values.iter().any(|value| value["type"] == *kind), "no frame of type {kind}");
    }
}

#[test]
fn frames_of_later_gateways_are_unknown_to_this_one() {
    let vectors = Vectors::load("server_frames.json");
    let known = crate::tables::server_types();
    for case in vectors.cases("ignore") {
        let value: Value = serde_json::from_str(case.text("text")).unwrap();
        assert!(!known.contains(&value["type"].as_str().unwrap()), "{}: is known", case.at);
        assert!(value.get("timestamp").is_none(), "{}: would be a message", case.at);
    }
    for case in vectors.cases("accept") {
        let value: Value = serde_json::from_str(case.text("text")).unwrap();
        assert_eq!(value["type"], case.text("type"), "{}", case.at);
        assert!(known.contains(&case.text("type")), "{}: a known type with something new in it", case.at);
        let written = read(&value).map(|frame| json(&frame));
        assert_ne!(written.as_deref(), Some(case.text("text")), "{}: holds nothing new", case.at);
    }
}

#[test]
fn bye_says_whether_to_come_back_for_every_code() {
    for close in Close::ALL {
        let bye = ServerFrame::Bye { code: close.code(), reason: close.reason().into() };
        let value: Value = serde_json::from_str(&json(&bye)).unwrap();
        assert_eq!(value["payload"]["reconnect"], Close::should_reconnect(close.code()), "{close:?}");
    }
}

#[test]
fn websocket_frames_are_the_frozen_bytes() {
    let vectors = Vectors::load("websocket.json");
    for case in vectors.cases("frames") {
        let opcode = match case.number("opcode") {
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => panic!("{}: no server sends opcode {other}", case.at),
        };
        let (payload, whole) = match case.find_text("fill") {
            None => (unhex(case.text("payload_hex")), unhex(case.text("frame_hex"))),
            Some(fill) => {
                let payload = unhex(fill).repeat(usize::try_from(case.number("count")).unwrap());
                let whole = [&unhex(case.text("head_hex"))[..], &payload].concat();
                (payload, whole)
            }
        };
        let encoded = WebSocketFrame::new(opcode, &payload);
        let shown = |bytes: &[u8]| hex(&bytes[..bytes.len().min(64)]);
        assert_eq!(encoded.bytes(), whole, "{}: {} is not {}", case.at, shown(encoded.bytes()), shown(&whole));
        assert_eq!(encoded.payload(), payload, "{}", case.at);
    }
}
