//! The frames that a client may send: every case of `client_frames.json` is read by the code and written back.

use serde_json::{Map, Value, json};
use wire::{BadFrame, ClientBody, ClientFrame, ErrorCode, Message, MessageDraft, Resume};

use crate::vectors::{Case, Vectors, hex, unhex};

/// Describes a frame as the vectors do: with the fields that were given, and no others.
fn describe(frame: &ClientFrame<'_>) -> Value {
    let mut means = Map::new();
    let mut say = |name: &str, value: Value| means.insert(name.into(), value);
    say("type", json!(type_of(&frame.body)));
    if let Some(id) = &frame.correlation_id {
        say("correlation_id", json!(id));
    }
    match &frame.body {
        ClientBody::Hello { token, session_id, restore, channels } => {
            if let Some(token) = token {
                say("token", json!(token));
            }
            if let Some(session) = session_id {
                say("session_id", json!(session.to_string()));
            }
            if *restore {
                say("restore", json!(true));
            }
            say("channels", channels.iter().map(|resume| Value::from(describe_resume(resume))).collect());
        }
        ClientBody::Subscribe(resume) => means.extend(describe_resume(resume)),
        ClientBody::Unsubscribe { channel } | ClientBody::Presence { channel } => _ = say("channel", json!(channel)),
        ClientBody::Publish { channel, id, message } => {
            let MessageDraft { kind, payload, binary, timestamp, correlation_id } = message;
            assert_eq!(*correlation_id, frame.correlation_id, "receivers see the id that the publisher gave");
            say("channel", json!(channel));
            say("event", json!(kind));
            if let Some(id) = id {
                say("id", json!(id));
            }
            match binary {
                Some(binary) => say("binary", json!(hex(binary))),
                None => say("payload", json!(payload.map_or("null", |payload| payload.get()))),
            };
            if let Some(timestamp) = timestamp {
                say("timestamp", json!(timestamp));
            }
        }
        ClientBody::Receipt { channel, position } => {
            say("channel", json!(channel));
            say("position", json!(position.to_string()));
        }
        ClientBody::Refresh { token } => _ = say("token", json!(token)),
        ClientBody::Ping | ClientBody::Pong => {}
    }
    Value::from(means)
}

fn describe_resume(resume: &Resume<'_>) -> Map<String, Value> {
    let mut means = Map::new();
    means.insert("channel".into(), json!(resume.channel));
    if let Some(position) = resume.position {
        means.insert("position".into(), json!(position.to_string()));
    }
    means
}

/// The `type` of every frame that a client may send. A new variant does not compile until it is listed here, and then
/// this test fails until `docs/protocol.md` lists it.
pub(crate) fn type_of(body: &ClientBody<'_>) -> &'static str {
    match body {
        ClientBody::Hello { .. } => "hello",
        ClientBody::Subscribe(_) => "subscribe",
        ClientBody::Unsubscribe { .. } => "unsubscribe",
        ClientBody::Publish { .. } => "publish",
        ClientBody::Receipt { .. } => "receipt",
        ClientBody::Presence { .. } => "presence",
        ClientBody::Refresh { .. } => "refresh",
        ClientBody::Ping => "ping",
        ClientBody::Pong => "pong",
    }
}

/// The reverse of [`describe`]: writes the shortest frame with this description.
fn write(means: &Value) -> Vec<u8> {
    let mut frame = Map::new();
    let mut take = |name: &str| means.get(name).map(|value| frame.insert(name.into(), value.clone()));
    for name in ["type", "correlation_id", "channel", "position", "event", "id", "timestamp"] {
        take(name);
    }
    match means["type"].as_str() {
        Some("hello" | "refresh") => {
            let mut payload = Map::new();
            for name in ["token", "session_id", "restore", "channels"] {
                means.get(name).map(|value| payload.insert(name.into(), value.clone()));
            }
            frame.insert("payload".into(), payload.into());
        }
        Some("publish") => {
            if let Some(binary) = means["binary"].as_str() {
                let header = serde_json::to_vec(&frame).unwrap();
                let length = u16::try_from(header.len()).unwrap().to_be_bytes();
                return [&[1], &length[..], &header, &unhex(binary)].concat();
            }
            // Appended as text, because a payload is passed on as it was written.
            let head = serde_json::to_string(&frame).unwrap();
            let payload = means["payload"].as_str().unwrap();
            return format!("{},\"payload\":{payload}}}", head.strip_suffix('}').unwrap()).into_bytes();
        }
        _ => {}
    }
    serde_json::to_vec(&frame).unwrap()
}

fn is_binary(case: &Case<'_>) -> bool {
    case.get("hex").is_some()
}

fn parse(bytes: &[u8], binary: bool) -> Result<ClientFrame<'_>, BadFrame> {
    match binary {
        true => ClientFrame::parse_binary(bytes),
        false => ClientFrame::parse(std::str::from_utf8(bytes).expect("a text frame is UTF-8")),
    }
}

fn frame_bytes(case: &Case<'_>) -> Vec<u8> {
    if is_binary(case) { unhex(case.text("hex")) } else { case.text("text").as_bytes().to_vec() }
}

#[test]
fn valid_frames_mean_what_they_say_both_ways() {
    let vectors = Vectors::load("client_frames.json");
    for case in vectors.cases("valid") {
        let means = case.get("means").expect("a valid frame means something");
        let bytes = frame_bytes(&case);
        let frame = parse(&bytes, is_binary(&case)).unwrap_or_else(|bad| panic!("{}: {bad:?}", case.at));
        assert_eq!(describe(&frame), *means, "{}", case.at);
        let written = write(means);
        let frame = parse(&written, is_binary(&case)).unwrap_or_else(|bad| panic!("{}: {bad:?}", case.at));
        assert_eq!(describe(&frame), *means, "{}, written and read again", case.at);
    }
}

#[test]
fn a_publish_is_stored_as_frozen_and_can_be_read_by_every_gateway() {
    let vectors = Vectors::load("client_frames.json");
    for case in vectors.cases("valid") {
        let bytes = frame_bytes(&case);
        let frame = parse(&bytes, is_binary(&case)).unwrap_or_else(|bad| panic!("{}: {bad:?}", case.at));
        let ClientBody::Publish { message, .. } = frame.body else { continue };
        let stored = message.to_bytes();
        assert_eq!(String::from_utf8_lossy(&stored), String::from_utf8_lossy(&case.bytes("stored")), "{}", case.at);
        let read = Message::parse(&stored).unwrap_or_else(|bad| panic!("{}: {bad}", case.at));
        assert_eq!((read.kind(), read.is_binary()), (&*message.kind, is_binary(&case)), "{}", case.at);
    }
}

#[test]
fn invalid_frames_are_answered_with_their_code_and_id() {
    let vectors = Vectors::load("client_frames.json");
    for case in vectors.cases("invalid") {
        let bytes = frame_bytes(&case);
        let bad = match parse(&bytes, is_binary(&case)) {
            Ok(frame) => panic!("{}: was taken for {frame:?}", case.at),
            Err(bad) => bad,
        };
        assert_eq!(bad.code.as_str(), case.text("error"), "{}: {}", case.at, bad.message);
        assert_eq!(bad.correlation_id.as_deref(), case.find_text("correlation_id"), "{}", case.at);
        assert!(!bad.message.is_empty(), "{}", case.at);
    }
}

#[test]
fn every_type_has_a_valid_case_and_every_code_of_the_parser_an_invalid_one() {
    let vectors = Vectors::load("client_frames.json");
    let valid = vectors.cases("valid");
    for kind in crate::tables::client_types() {
        assert!(valid.iter().any(|case| case.get("means").unwrap()["type"] == *kind), "no valid case of {kind}");
    }
    use ErrorCode::{InvalidField, InvalidPosition, Malformed, TooManyChannels, UnknownType};
    let invalid = vectors.cases("invalid");
    for code in [Malformed, UnknownType, InvalidField, InvalidPosition, TooManyChannels] {
        assert!(invalid.iter().any(|case| case.text("error") == code.as_str()), "no case of {code:?}");
    }
}
