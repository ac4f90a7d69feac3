//! The examples of `docs/protocol.md`, one frame a line, are frames.

use serde_json::Value;
use wire::{ClientFrame, Families, Message, Position, TenantId, Timestamp};

use crate::document::{Document, Example};
use crate::server_frames;

#[test]
fn clients_examples_are_taken() {
    let document = Document::load();
    let mut types = Vec::new();
    for Example { line, text, .. } in document.examples().iter().filter(|example| example.sender == "client") {
        let frame = ClientFrame::parse(text).unwrap_or_else(|bad| panic!("docs/protocol.md:{line}: {}", bad.message));
        types.push(crate::client_frames::type_of(&frame.body));
    }
    for kind in crate::tables::client_types() {
        assert!(types.contains(kind), "docs/protocol.md shows no {kind}");
    }
}

#[test]
fn gateways_examples_are_written_by_the_code() {
    let document = Document::load();
    let mut types = Vec::new();
    for Example { line, text, .. } in document.examples().iter().filter(|example| example.sender == "gateway") {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("docs/protocol.md:{line}: {e}"));
        let written = match value.get("timestamp") {
            Some(_) => rewrite_message(&value),
            None => {
                let frame = server_frames::read(&value).unwrap_or_else(|| panic!("docs/protocol.md:{line}: no frame"));
                types.push(frame.kind());
                server_frames::json(&frame)
            }
        };
        assert_eq!(&written, text, "docs/protocol.md:{line}");
    }
    for kind in crate::tables::server_types() {
        assert!(types.contains(kind), "docs/protocol.md shows no {kind}");
    }
}

/// The message as its publisher stored it, delivered.
fn rewrite_message(value: &Value) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} is a text in {value}"));
    let channel = Families::default().parse_channel(&TenantId::default(), text("channel")).unwrap();
    let id = &value["correlation_id"];
    let (payload, timestamp) = (&value["payload"], text("timestamp"));
    let kind = text("type");
    let stored = format!(r#"{{"type":"{kind}","payload":{payload},"timestamp":"{timestamp}","correlation_id":{id}}}"#);
    let position: Position = text("position").parse().unwrap();
    let message = Message::parse(stored.as_bytes()).unwrap();
    let mut delivered = Vec::new();
    message.write(&channel.scope, channel.topic(), Timestamp(0), Some(position), &mut delivered);
    String::from_utf8(delivered).unwrap()
}

#[test]
fn publishers_examples_are_messages() {
    let document = Document::load();
    let examples = document.examples();
    let mut stored = examples.iter().filter(|example| example.sender == "publisher").peekable();
    assert!(stored.peek().is_some(), "docs/protocol.md shows what publishers store");
    for Example { line, text, .. } in stored {
        Message::parse(text.as_bytes()).unwrap_or_else(|bad| panic!("docs/protocol.md:{line}: {bad}"));
    }
}
