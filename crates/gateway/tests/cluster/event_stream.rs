//! A client of an event stream that reads bytes as the HTML Living Standard, §9.2.6, has browsers read them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::DEADLINE;
use crate::dial;

pub(crate) struct EventStream {
    stream: dial::Stream,
    received: Vec<u8>,
    /// The id of the last event that was complete.
    pub(crate) last_id: Option<String>,
    /// The code of the last `bye`.
    bye: Option<Value>,
}

impl EventStream {
    /// Requests an event stream, which must be answered by 200.
    pub(crate) async fn request(mut stream: dial::Stream, target: &str, token: &str, last_id: Option<&str>) -> Self {
        let last = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: gateway\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the gateway reads");
        let (last_id, received) = (last_id.map(str::to_owned), Vec::new());
        let mut this = Self { stream, received, last_id, bye: None };
        // Something between the two may cut the head.
        if let Some(head) = this.lines(b"\r\n\r\n").await {
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.to_lowercase().contains("content-type: text/event-stream\r\n"), "{head}");
        }
        this
    }

    /// The next frame, or `close` with the code of the last `bye`: 1006 without one. An id alone is a `position`.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let Some(lines) = self.lines(b"\n\n").await else {
                let code = self.bye.take().unwrap_or(json!(1006));
                return json!({ "type": "close", "code": code });
            };
            let (mut name, mut data, mut has_id) = (None, Vec::new(), false);
            for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
                let (field, value) = line.split_once(": ").expect("a field and a value");
                match field {
                    "id" => (self.last_id, has_id) = (Some(value.to_owned()), true),
                    "event" => name = Some(value.to_owned()),
                    "data" => data.push(value),
                    "retry" => assert!(value.parse::<u64>().is_ok(), "{line}"),
                    _ => panic!("{line}"),
                }
            }
            if data.is_empty() {
                if has_id {
                    return json!({ "type": "position" });
                }
                continue;
            }
            let frame: Value = serde_json::from_str(&data.join("\n")).expect("data is JSON");
            let is_message = frame.get("timestamp").is_some();
            assert_eq!(name.as_deref(), frame["type"].as_str().filter(|_| !is_message), "{lines}");
            if !is_message && frame["type"] == "bye" {
                self.bye = Some(frame["payload"]["code"].clone());
            }
            return frame;
        }
    }

    /// What has come up to this separator, or none if the connection has ended before.
    async fn lines(&mut self, separator: &[u8]) -> Option<String> {
        loop {
            let found = self.received.windows(separator.len()).position(|window| window == separator);
            if let Some(at) = found {
                let rest = self.received.split_off(at + separator.len());
                let lines = std::mem::replace(&mut self.received, rest);
                return Some(String::from_utf8(lines).expect("an event stream is UTF-8"));
            }
            let mut bytes = [0; 4096];
            let n = timeout(DEADLINE, self.stream.read(&mut bytes)).await.expect("an event in time").unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.received.extend_from_slice(&bytes[..n]);
        }
    }
}
