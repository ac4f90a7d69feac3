//! The frames of `docs/protocol.md`, read from their raw text according to that page alone.

use serde_json::Value;

use crate::position::Position;

/// A frame from the gateway, as far as the checker needs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerMessage {
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
    Welcome {
        session: String,
        instance: Option<String>,
    },
    /// The answer to a restore; none if the session is not known.
    Restored(Option<Restored>),
    Ack {
        position: Option<Position>,
        level: String,
    },
    Error {
        code: String,
        retryable: bool,
    },
    Bye {
        code: u16,
        reconnect: bool,
    },
    /// A frame without consequence for the checker, or of an unknown type.
    Other,
}

/// The content of a restored session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Whether messages may come again.
    pub(crate) repeats: bool,
    pub(crate) channels: Vec<String>,
}

/// One channel or pattern that a client requests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestedSubscription {
    pub(crate) channel: String,
    pub(crate) after: Option<Position>,
}

/// A frame from a client, as far as the checker needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) is_hello: bool,
    /// The session that must continue.
    pub(crate) session: Option<String>,
    /// The subscriptions of that session must be restored.
    pub(crate) restore: bool,
    pub(crate) subscriptions: Vec<RequestedSubscription>,
}

/// The name under which a browser dispatches this frame as an event: none for messages, whose `type` is the publisher's.
pub(crate) fn event_name(text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    frame["type"].as_str().filter(|_| frame.get("timestamp").is_none()).map(str::to_owned)
}

/// Reads a frame from the gateway; none if it breaks the protocol.
pub(crate) fn read_frame(text: &str) -> Option<ServerMessage> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let kind = frame["type"].as_str()?;
    let channel = || frame["channel"].as_str().map(str::to_owned);
    let payload = &frame["payload"];
    if frame.get("timestamp").is_some() {
        let value = payload["v"].as_str().map(str::to_owned);
        return Some(ServerMessage::Message { channel: channel()?, value, position: position(&frame["position"])? });
    }
    Some(match kind {
        "subscribed" => ServerMessage::Subscribed {
            channel: channel()?,
            position: position(&frame["position"])?,
            resumed: payload["resumed"].as_bool()?,
            degraded: payload["degraded"].as_bool()?,
        },
        "unsubscribed" => ServerMessage::Unsubscribed { channel: channel()? },
        "position" => ServerMessage::Position { channel: channel()?, position: position(&frame["position"])?? },
        "gap" => ServerMessage::Gap {
            channel: channel()?,
            after: position(&payload["after"])?,
            upto: position(&payload["upto"])?,
            reason: payload["reason"].as_str()?.to_owned(),
        },
        "degraded" => ServerMessage::Degraded(payload["degraded"].as_bool()?),
        "ack" => {
            ServerMessage::Ack { position: position(&frame["position"])?, level: payload["level"].as_str()?.to_owned() }
        }
        "welcome" => ServerMessage::Welcome {
            session: payload["expires_in_ms"].as_u64().and(payload["session_id"].as_str())?.to_owned(),
            instance: payload["instance"].as_str().map(str::to_owned),
        },
        "restored" => {
            ServerMessage::Restored(if payload["found"].as_bool()? { Some(restored(payload)?) } else { None })
        }
        "error" => ServerMessage::Error {
            code: payload["code"].as_str()?.to_owned(),
            retryable: payload["retryable"].as_bool()?,
        },
        "bye" => ServerMessage::Bye {
            code: payload["code"].as_u64()?.try_into().ok()?,
            reconnect: payload["reconnect"].as_bool()?,
        },
        _ => ServerMessage::Other,
    })
}

fn restored(payload: &Value) -> Option<Restored> {
    let channels = payload["channels"].as_array()?.iter().map(|channel| channel.as_str().map(str::to_owned));
    Some(Restored { repeats: payload["repeats"].as_bool()?, channels: channels.collect::<Option<_>>()? })
}

/// Reads a frame from a client.
pub(crate) fn say(text: &str) -> Option<Said> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let payload = &frame["payload"];
    let one = |place: &Value| {
        Some(RequestedSubscription {
            channel: place["channel"].as_str()?.to_owned(),
            after: position(&place["position"])?,
        })
    };
    Some(match frame["type"].as_str()? {
        "hello" => Said {
            is_hello: true,
            session: payload["session_id"].as_str().map(str::to_owned),
            restore: payload["restore"] == true,
            subscriptions: payload["channels"].as_array().into_iter().flatten().map(one).collect::<Option<_>>()?,
        },
        "subscribe" => Said { subscriptions: vec![one(&frame)?], ..Said::default() },
        _ => Said::default(),
    })
}

/// A position, `null` or absent; none if it is something else.
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
    fn a_message_may_have_any_type() {
        let text = r#"{"type":"gap","channel":"system","payload":{"v":"a"},"timestamp":"x","position":"7-1"}"#;
        let position = Some(Position { generation: 7, offset: 1 });
        assert_eq!(
            read_frame(text),
            Some(ServerMessage::Message { channel: "system".into(), value: Some("a".into()), position })
        );
    }

    #[test]
    fn frames_that_break_the_protocol_are_not_read() {
        for text in ["", "[]", r#"{"type":"gap","channel":"system","payload":{"after":7,"upto":null,"reason":"x"}}"#] {
            assert_eq!(read_frame(text), None, "{text}");
        }
        assert_eq!(read_frame(r#"{"type":"pong"}"#), Some(ServerMessage::Other));
    }

    #[test]
    fn a_hello_asks_for_all_its_channels() {
        let text = r#"{"type":"hello","payload":{"token":"t","channels":[{"channel":"system","position":null},{"channel":"user:a","position":"7-2"}]}}"#;
        let said = say(text).unwrap();
        let after: Vec<_> = said.subscriptions.iter().map(|request| request.after.map(|p| p.offset)).collect();
        assert_eq!(after, [None, Some(2)]);
        assert!(said.is_hello && !said.restore);
    }

    #[test]
    fn restored_sessions_are_read_found_or_not() {
        let text = r#"{"type":"restored","payload":{"found":true,"repeats":true,"channels":["system:*"]}}"#;
        let restored = Restored { repeats: true, channels: vec!["system:*".into()] };
        assert_eq!(read_frame(text), Some(ServerMessage::Restored(Some(restored))));
        assert_eq!(read_frame(r#"{"type":"restored","payload":{"found":false}}"#), Some(ServerMessage::Restored(None)));
        assert_eq!(read_frame(r#"{"type":"restored","payload":{"found":true,"repeats":true}}"#), None);
        let said = say(r#"{"type":"hello","payload":{"token":"t","session_id":"ab","restore":true}}"#).unwrap();
        assert_eq!((said.session.as_deref(), said.restore, said.subscriptions), (Some("ab"), true, vec![]));
    }
}
