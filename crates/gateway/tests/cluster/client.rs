//! A client that speaks bytes the way another implementation would: tokio-tungstenite.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::dial;

/// Longer than anything here takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<dial::Stream>,
}

impl Client {
    /// Connects, with a token in `Authorization` if one is given.
    pub(crate) async fn connect(address: SocketAddr, path: &str, token: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        Self::upgrade(stream, path, token).await
    }

    /// Upgrades a socket that the test has prepared.
    pub(crate) async fn upgrade(stream: TcpStream, path: &str, token: Option<&str>) -> Self {
        Self::upgrade_over(dial::over(stream).await, path, token).await
    }

    /// Upgrades a stream over which nothing has been said yet.
    pub(crate) async fn upgrade_over(stream: dial::Stream, path: &str, token: Option<&str>) -> Self {
        let mut request = format!("ws://gateway{path}").into_client_request().expect("a URL");
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", bearer);
        }
        let (socket, _) = client_async(request, stream).await.expect("the gateway upgrades");
        Self { socket }
    }

    pub(crate) async fn send_text(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.expect("the connection is open");
    }

    /// The next frame that is neither a ping nor the `position` that may come with one: a JSON object, or a close.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let frame = self.next_with_positions().await;
            if frame["type"] != "position" {
                return frame;
            }
        }
    }

    /// The next frame that is no ping.
    pub(crate) async fn next_with_positions(&mut self) -> Value {
        loop {
            let message = timeout(DEADLINE, self.socket.next()).await.expect("a frame in time");
            match message.expect("the connection goes on").expect("the frame is well-formed") {
                Message::Text(text) => return serde_json::from_str(&text).expect("frames are JSON"),
                Message::Close(frame) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    return serde_json::json!({ "type": "close", "code": code });
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("an unexpected frame: {other:?}"),
            }
        }
    }

    /// The next frame, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// Subscribes and waits until it stands. Gives where.
    pub(crate) async fn subscribe(&mut self, channel: &str, position: Option<&str>) -> Value {
        let position = position.map(|position| format!(r#","position":"{position}""#)).unwrap_or_default();
        self.send_text(&format!(r#"{{"type":"subscribe","channel":"{channel}"{position}}}"#)).await;
        loop {
            // A gateway that has just started may not have reached Redis yet; it says so, and confirms later.
            let frame = self.next().await;
            match (frame["type"].as_str(), &frame["payload"]["degraded"]) {
                (Some("degraded"), _) | (Some("subscribed"), Value::Bool(true)) => {}
                (Some("subscribed"), _) => return frame,
                _ => panic!("not what a subscribe is answered by: {frame}"),
            }
        }
    }

    /// Publishes and waits for the answer.
    pub(crate) async fn publish(&mut self, channel: &str, n: u64) -> Value {
        self.send_text(&format!(r#"{{"type":"publish","channel":"{channel}","event":"n","payload":{n}}}"#)).await;
        loop {
            let frame = self.next().await;
            if frame["type"] == "ack" || frame["type"] == "error" {
                return frame;
            }
        }
    }

    /// Reads `n` messages and gives their payloads and the last position.
    pub(crate) async fn messages(&mut self, n: usize) -> (Vec<u64>, String) {
        let (mut payloads, mut position) = (Vec::new(), String::new());
        while payloads.len() < n {
            let frame = self.next().await;
            match frame["type"].as_str().expect("every frame has a type") {
                "n" => {
                    payloads.push(frame["payload"].as_u64().expect("a number"));
                    position = frame["position"].as_str().expect("a position").to_owned();
                }
                "degraded" => {}
                _ => panic!("not a message: {frame}"),
            }
        }
        (payloads, position)
    }
}
