//! The frames of `docs/protocol.md`, read from their raw text by nothing but that page.

use serde_json::Value;

use crate::position::Position;

/// What a gateway said, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Message {
        channel: String,
        value: Option<String>,
        position: Option<Position>,
    },
    Subscribed {
        channel: String,
        position: Option<Position>,
        resumed: bool,
        degraded: bool,
    },
    Unsubscribed {
        channel: String,
    },
    Position {
        channel: String,
        position: Position,
    },
    Gap {
        channel: String,
        after: Option<Position>,
        upto: Option<Position>,
        reason: String,
    },
    Degraded(bool),
    Ack {
        position: Option<Position>,
        level: String,
    },
    Error {
        code: String,
    },
    /// Of no consequence, or of a type that this page did not have.
    Other,
}

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) channel: String,
    pub(crate) after: Option<Position>,
}

/// Reads a frame from the gateway; nothing if it breaks the page.
pub(crate) fn hear(text: &str) -> Option<Heard> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let kind = frame["type"].as_str()?;
    let channel = || frame["channel"].as_str().map(str::to_owned);
    let payload = &frame["payload"];
    if frame.get("timestamp").is_some() {
        let value = payload["v"].as_str().map(str::to_owned);
        return Some(Heard::Message { channel: channel()?, value, position: position(&frame["position"])? });
    }
    Some(match kind {
        "subscribed" => Heard::Subscribed {
            channel: channel()?,
            position: position(&frame["position"])?,
            resumed: payload["resumed"].as_bool()?,
            degraded: payload["degraded"].as_bool()?,
        },
        "unsubscribed" => Heard::Unsubscribed { channel: channel()? },
        "position" => Heard::Position { channel: channel()?, position: position(&frame["position"])?? },
        "gap" => Heard::Gap {
            channel: channel()?,
            after: position(&payload["after"])?,
            upto: position(&payload["upto"])?,
            reason: payload["reason"].as_str()?.to_owned(),
        },
        "degraded" => Heard::Degraded(payload["degraded"].as_bool()?),
        "ack" => Heard::Ack { position: position(&frame["position"])?, level: payload["level"].as_str()?.to_owned() },
        "error" => Heard::Error { code: payload["code"].as_str()?.to_owned() },
        _ => Heard::Other,
    })
}

/// What a client asked for in this frame.
pub(crate) fn asked(text: &str) -> Option<Vec<Asked>> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let one = |place: &Value| {
        Some(Asked { channel: place["channel"].as_str()?.to_owned(), after: position(&place["position"])? })
    };
    match frame["type"].as_str()? {
        "hello" => frame["payload"]["channels"].as_array().into_iter().flatten().map(one).collect(),
        "subscribe" => one(&frame).map(|asked| vec![asked]),
        _ => Some(Vec::new()),
    }
}

/// A position, `null` or absent; nothing if it is something else.
#[allow(
    clippy::option_option,
    reason = "the outer one is whether it could be read, the inner one whether it was there"
)]
fn position(value: &Value) -> Option<Option<Position>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => text.parse().ok().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_be_called_like_anything() {
        let text = r#"{"type":"gap","channel":"system","payload":{"v":"a"},"timestamp":"x","position":"7-1"}"#;
        let position = Some(Position { generation: 7, offset: 1 });
        assert_eq!(hear(text), Some(Heard::Message { channel: "system".into(), value: Some("a".into()), position }));
    }

    #[test]
    fn what_breaks_the_page_is_nothing() {
        for text in ["", "[]", r#"{"type":"gap","channel":"system","payload":{"after":7,"upto":null,"reason":"x"}}"#] {
            assert_eq!(hear(text), None, "{text}");
        }
        assert_eq!(hear(r#"{"type":"pong"}"#), Some(Heard::Other));
    }

    #[test]
    fn a_hello_asks_for_all_its_channels() {
        let text = r#"{"type":"hello","payload":{"token":"t","channels":[{"channel":"system","position":null},{"channel":"user:a","position":"7-2"}]}}"#;
        let after: Vec<_> = asked(text).unwrap().into_iter().map(|asked| asked.after.map(|p| p.offset)).collect();
        assert_eq!(after, [None, Some(2)]);
    }
}
