//! A client that only receives, over either transport: tests that are about what arrives run over both.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::dial;
use crate::event_stream::EventStream;
use crate::fleet::Fleet;

/// The transport between a client and a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    EventStream,
}

/// Runs each of these functions as two tests, `NAME::websocket` and `NAME::sse`.
macro_rules! over_both_transports {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::receiver::Transport;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn websocket() {
                super::$name(Transport::WebSocket).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sse() {
                super::$name(Transport::EventStream).await;
            }
        }
    )+};
}

/// What a client keeps while it has no connection.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    /// Its session, and a position for each channel.
    Positions { token: String, session: String, positions: BTreeMap<String, Option<String>> },
    /// The id of the last event that was complete, and the address that it requests.
    LastId { token: String, channels: String, id: Option<String> },
}

/// A client and its connection.
pub(crate) struct Receiver {
    connection: Connection,
    kept: Kept,
}

enum Connection {
    WebSocket(Box<Client>),
    EventStream(Box<EventStream>),
}

impl Kept {
    /// What a client keeps that was never there.
    pub(crate) fn nothing(transport: Transport, token: &str, channels: &[&str]) -> Self {
        let token = token.to_owned();
        match transport {
            Transport::WebSocket => {
                let positions = channels.iter().map(|channel| ((*channel).to_owned(), None)).collect();
                Self::Positions { token, session: String::new(), positions }
            }
            Transport::EventStream => Self::LastId { token, channels: channels.join(","), id: None },
        }
    }

    /// Connects to a gateway of this address and resumes. The `welcome` is the next frame.
    pub(crate) async fn connect(self, address: std::net::SocketAddr) -> Receiver {
        self.connect_over(TcpStream::connect(address).await.expect("the gateway listens")).await
    }

    /// The same on a socket that the test has prepared.
    pub(crate) async fn connect_over(self, socket: TcpStream) -> Receiver {
        let connection = match &self {
            Self::Positions { token, session, positions } => {
                let mut client = Client::upgrade(socket, "/ws", None).await;
                let channels: Vec<Value> = positions
                    .iter()
                    .map(|(channel, position)| json!({ "channel": channel, "position": position }))
                    .collect();
                let mut payload = json!({ "token": token, "channels": channels });
                if !session.is_empty() {
                    payload["session_id"] = json!(session);
                }
                client.send_text(&json!({ "type": "hello", "payload": payload }).to_string()).await;
                Connection::WebSocket(Box::new(client))
            }
            Self::LastId { token, channels, id } => {
                let target = format!("/sse?channels={channels}");
                let stream = EventStream::request(dial::over(socket).await, &target, token, id.as_deref()).await;
                Connection::EventStream(Box::new(stream))
            }
        };
        Receiver { connection, kept: self }
    }

    fn channels(&self) -> Vec<String> {
        match self {
            Self::Positions { positions, .. } => positions.keys().cloned().collect(),
            Self::LastId { channels, .. } => channels.split(',').map(str::to_owned).collect(),
        }
    }

    /// Takes over what a frame says of the session and of positions, as `docs/protocol.md` tells clients to.
    fn update(&mut self, frame: &Value) {
        let Self::Positions { session, positions, .. } = self else { return };
        let is_message = frame.get("timestamp").is_some();
        let at = match frame["type"].as_str() {
            _ if is_message => &frame["position"],
            Some("subscribed" | "position") => &frame["position"],
            Some("gap") => &frame["payload"]["upto"],
            Some("welcome") => {
                *session = frame["payload"]["session_id"].as_str().expect("a welcome names it").to_owned();
                return;
            }
            _ => return,
        };
        let (Some(at), Some(channel)) = (at.as_str(), frame["channel"].as_str()) else { return };
        for (pattern, position) in positions.iter_mut() {
            let stem = pattern.strip_suffix('*');
            let is_it = match stem {
                Some(stem) if is_message => channel.starts_with(stem),
                _ => pattern == channel,
            };
            let number = |text: &str| text.parse::<wire::Position>().expect("a position");
            if is_it && position.as_deref().is_none_or(|position| number(position) < number(at)) {
                *position = Some(at.to_owned());
            }
        }
    }
}

impl Receiver {
    /// A client of tenant `acme` that is subscribed to these channels. The instance has reached its broker.
    pub(crate) async fn subscribed(
        transport: Transport,
        fleet: &Fleet,
        index: usize,
        user: &str,
        channels: &[&str],
    ) -> Self {
        let token = fleet.token("acme", user, &["collection:*", "system", "system:*"]);
        let kept = Kept::nothing(transport, &token, channels);
        let mut receiver = kept.connect(fleet.gateway(index).listen_addr()).await;
        receiver.until_subscribed().await;
        receiver
    }

    /// Waits until all its subscriptions are confirmed. Gives the confirmations.
    pub(crate) async fn until_subscribed(&mut self) -> Vec<Value> {
        let (mut wanted, mut confirmed) = (self.kept.channels(), Vec::new());
        while !wanted.is_empty() {
            let frame = self.next().await;
            match (frame["type"].as_str(), &frame["payload"]["degraded"]) {
                (Some("welcome" | "degraded"), _) | (Some("subscribed"), Value::Bool(true)) => {}
                (Some("subscribed"), _) => {
                    wanted.retain(|channel| frame["channel"] != **channel);
                    confirmed.push(frame);
                }
                _ => panic!("not what a request is answered by: {frame}"),
            }
        }
        confirmed
    }

    /// The next frame that is not a position alone, or `close`, as [`Client::next`] has it. An event stream that ends
    /// without a word has the code 1006.
    pub(crate) async fn next(&mut self) -> Value {
        let frame = match &mut self.connection {
            Connection::WebSocket(client) => client.next_with_positions().await,
            Connection::EventStream(stream) => {
                let frame = stream.next().await;
                let Kept::LastId { id, .. } = &mut self.kept else { unreachable!("an event stream has ids") };
                id.clone_from(&stream.last_id);
                frame
            }
        };
        self.kept.update(&frame);
        if frame["type"] == "position" { Box::pin(self.next()).await } else { frame }
    }

    /// The next frame, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// Reads `n` messages and gives their payloads.
    pub(crate) async fn messages(&mut self, n: usize) -> Vec<u64> {
        let mut payloads = Vec::new();
        while payloads.len() < n {
            let frame = self.next().await;
            match frame["type"].as_str().expect("every frame has a type") {
                "n" => payloads.push(frame["payload"].as_u64().expect("a number")),
                "degraded" => {}
                _ => panic!("not a message: {frame}"),
            }
        }
        payloads
    }

    /// What it has now to come back with.
    pub(crate) fn kept(&self) -> Kept {
        self.kept.clone()
    }
}
