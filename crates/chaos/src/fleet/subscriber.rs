//! A client that follows `docs/protocol.md` and is cheap enough for ten thousand of them. It keeps positions and its
//! session, backs off with full jitter, and waits as long as it is told.
//!
//! The clients imitate a load balancer: if an instance refuses a connection or answers 503, the client tries the next
//! instance at once (`option redispatch 1`, `retry-on 503` in `haproxy/haproxy.cfg`).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use history_checker::{Event, Position, Transport};
use serde_json::{Value, json};
use test_support::Random;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::audience::{Audience, scope_of};
use super::pending::Pending;
use super::trace::{Step, Trace};
use crate::token;

/// Time limit for a connection and its upgrade, which may wait a second for admission.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// The backoff of the protocol: before attempt n, a random time up to the first value times 2ⁿ, at most the second
/// value.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Buffer size of a client, which receives few messages.
const BUFFER_BYTES: usize = 4 * 1024;
/// Number of source addresses, from 127.0.0.2 on. One address has only 28,000 ports.
const SOURCES: usize = 8;
/// The code that a library reports when a connection ended without a close frame.
const ABNORMAL: u16 = 1006;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

type Socket = WebSocketStream<TcpStream>;

/// The identity of a client.
#[derive(Debug, Clone)]
pub(crate) struct ClientIdentity {
    /// The name of the client, which is unique.
    pub(crate) name: String,
    /// The user of its token.
    pub(crate) user: String,
    pub(crate) patterns: Vec<String>,
    /// The client sends its session id when it reconnects.
    pub(crate) keeps_session: bool,
    /// The instance of its first connection. Without it, the client chooses any instance.
    pub(crate) first: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    identity: ClientIdentity,
    audience: Arc<Audience>,
    trace: Trace,
    random: Random,
    source: Ipv4Addr,
    /// The largest position of each pattern.
    held: Vec<Option<Position>>,
    session: Option<String>,
    /// Number of consecutive failures.
    attempt: u32,
    /// Patterns that are active on this connection.
    active: BTreeSet<usize>,
    /// Patterns whose sentinel has been received.
    done: BTreeSet<usize>,
    /// The time after which the gateway told it to reconnect.
    retry_after: Option<Duration>,
    pending: Pending,
}

impl Subscriber {
    pub(crate) fn new(
        number: usize,
        identity: ClientIdentity,
        audience: Arc<Audience>,
        trace: Trace,
        mut random: Random,
    ) -> Self {
        let last = 2 + u8::try_from(number % SOURCES).unwrap_or(0);
        let pending = Pending::new(&audience, scope_of(&identity.patterns[0]), random.fork());
        Self {
            held: vec![None; identity.patterns.len()],
            source: Ipv4Addr::new(127, 0, 0, last),
            identity,
            audience,
            trace,
            random,
            session: None,
            attempt: 0,
            active: BTreeSet::new(),
            done: BTreeSet::new(),
            retry_after: None,
            pending,
        }
    }

    /// Runs the client until its task is aborted.
    pub(crate) async fn run(mut self) {
        sleep(self.random.between(Duration::ZERO, self.audience.ramp)).await;
        loop {
            match self.connect().await {
                Some((instance, socket)) => self.stay(instance, socket).await,
                None => self.note(Step::NoInstance),
            }
            let most = BACKOFF.1.min(BACKOFF.0 * 2_u32.saturating_pow(self.attempt));
            let jittered = self.random.between(Duration::ZERO, most);
            self.attempt += 1;
            sleep(self.retry_after.take().unwrap_or(jittered)).await;
        }
    }

    fn note(&self, step: Step) {
        self.trace.note(self.audience.now_us(), step);
    }

    /// Connects to any instance that accepts the connection.
    async fn connect(&mut self) -> Option<(usize, Socket)> {
        let count = self.audience.gateways.len();
        let first = self.identity.first.take().unwrap_or_else(|| self.random.below(count));
        // The other instances are tried in a random direction. Otherwise the neighbour of a dead instance would get all
        // of its clients.
        let step = 1 + self.random.below(count - 1);
        for index in (0..count).map(|nth| (first + nth * step) % count) {
            let dialled = dial(self.source, self.audience.gateways[index].1);
            if let Ok(Some(socket)) = timeout(CONNECT_TIME_MAX, dialled).await {
                return Some((index, socket));
            }
        }
        None
    }

    /// Runs one connection, from the `hello` to its end.
    async fn stay(&mut self, instance: usize, mut socket: Socket) {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let (name, to) = (self.identity.name.clone(), self.audience.gateways[instance].0.clone());
        self.audience.recorder.record(Event::Opened {
            client: name,
            connection: number,
            instance: to,
            reads_slowly: false,
            transport: Transport::WebSocket,
        });
        let hello = self.hello();
        self.audience.recorder.record(Event::Sent { connection: number, text: hello.clone() });
        let code = match socket.send(Message::text(hello)).await {
            Ok(()) => self.listen(number, instance, &mut socket).await,
            Err(_) => ABNORMAL,
        };
        if self.is_live() {
            self.audience.live.fetch_sub(1, Ordering::Relaxed);
            self.audience.cuts.fetch_add(1, Ordering::Relaxed);
        }
        self.active.clear();
        self.pending.broken(&self.audience);
        let (why, retry_after) = (code.to_string(), Some(code).filter(|code| *code != ABNORMAL));
        self.audience.recorder.record(Event::Closed { connection: number, why, intended: false, code: retry_after });
        self.note(Step::Ended(code, self.retry_after.is_some()));
    }

    fn hello(&self) -> String {
        let channels: Vec<Value> = (self.identity.patterns.iter().zip(&self.held))
            .map(|(channel, at)| json!({"channel": channel, "position": at.map(|at| at.to_string())}))
            .collect();
        let session = self.session.as_ref().filter(|_| self.identity.keeps_session);
        let token = token::sign(&self.identity.user);
        json!({"type": "hello", "payload": {"token": token, "session_id": session, "channels": channels}}).to_string()
    }

    /// Reads until the connection ends. Returns the close code.
    async fn listen(&mut self, number: u64, instance: usize, socket: &mut Socket) -> u16 {
        loop {
            let due = self.pending.due(self.is_live());
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.receive(number, instance, text.as_str()),
                    Some(Ok(Message::Close(frame))) => return frame.map_or(1005, |frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return ABNORMAL,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let via = &self.audience.gateways[instance].0;
                    if let Some(text) = self.pending.next(&self.audience, via)
                        && socket.send(Message::text(text)).await.is_err()
                    {
                        return ABNORMAL;
                    }
                }
            }
        }
    }

    fn is_live(&self) -> bool {
        self.active.len() == self.identity.patterns.len()
    }

    fn receive(&mut self, number: u64, instance: usize, text: &str) {
        self.audience.recorder.record(Event::Received { connection: number, text: text.to_owned() });
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        if frame.get("timestamp").is_some() {
            return self.message(&frame);
        }
        let payload = &frame["payload"];
        match frame["type"].as_str().unwrap_or_default() {
            "welcome" => {
                self.attempt = 0;
                self.session = payload["session_id"].as_str().map(str::to_owned);
                self.note(Step::Welcomed(instance));
            }
            "reconnect" => self.retry_after = payload["after_ms"].as_u64().map(Duration::from_millis),
            "error" if frame["correlation_id"].is_null() => {
                self.retry_after = payload["retry_after_ms"].as_u64().map(Duration::from_millis);
            }
            kind @ ("ack" | "error") => self.pending.answered(&self.audience, kind, &frame, text),
            "gap" => self.hold(frame["channel"].as_str(), &payload["upto"]),
            "position" => self.hold(frame["channel"].as_str(), &frame["position"]),
            "subscribed" => self.subscribed(&frame),
            _ => {}
        }
    }

    fn subscribed(&mut self, frame: &Value) {
        let channel = frame["channel"].as_str().unwrap_or_default();
        let Some(index) = self.identity.patterns.iter().position(|pattern| pattern == channel) else { return };
        // A `subscribed` that does not resume moves nothing: its `gap` does.
        if self.held[index].is_none() {
            self.raise(index, &frame["position"]);
        }
        let was_live = self.is_live();
        if frame["position"].is_string() {
            self.active.insert(index);
        }
        if self.is_live() && !was_live {
            self.audience.live.fetch_add(1, Ordering::Relaxed);
            self.note(Step::Live);
        }
    }

    fn message(&mut self, frame: &Value) {
        let channel = frame["channel"].as_str().unwrap_or_default();
        if let Some(sent_us) = frame["payload"]["at_us"].as_u64() {
            self.trace.note_lateness(self.audience.now_us().saturating_sub(sent_us));
        }
        let matches = |pattern: &str| pattern.strip_suffix('*').is_some_and(|stem| channel.starts_with(stem));
        for index in 0..self.identity.patterns.len() {
            if matches(&self.identity.patterns[index]) {
                self.raise(index, &frame["position"]);
                if frame["payload"]["sentinel"] == true && self.done.insert(index) {
                    self.audience.sentinels.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn hold(&mut self, channel: Option<&str>, position: &Value) {
        let named = self.identity.patterns.iter().position(|pattern| Some(pattern.as_str()) == channel);
        if let Some(index) = named {
            self.raise(index, position);
        }
    }

    fn raise(&mut self, index: usize, position: &Value) {
        let at: Option<Position> = position.as_str().and_then(|at| at.parse().ok());
        if let Some(at) = at.filter(|at| Some(*at) > self.held[index]) {
            self.held[index] = Some(at);
            self.note(Step::Has(index, at));
        }
    }
}

async fn dial(source: Ipv4Addr, address: SocketAddr) -> Option<Socket> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((source, 0).into()).ok()?;
    let stream = socket.connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let request = format!("ws://{address}/ws").into_client_request().ok()?;
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
    Some(client_async_with_config(request, stream, Some(config)).await.ok()?.0)
}
