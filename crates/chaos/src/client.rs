//! A client as an application writes it. It keeps positions, its session id, the id of the last event, or nothing, and
//! it reconnects to another instance.

mod behaviour;
mod contention;
mod ending;
mod event_stream;
mod pace;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use history_checker::{Event, Position, Transport};
use serde_json::{Value, json};
use test_support::Random;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

pub(crate) use self::behaviour::{Behaviour, Keeps};
pub(crate) use self::contention::Contention;
use self::ending::{Ending, answer_close};
use self::pace::Pace;
use self::session::Kept;
use crate::entrance::{Approach, Cookie, Entrance, Jar, Socket};
use crate::ownership::Open;
use crate::recorder::Recorder;
use crate::token;

/// Time limit for a connection and its upgrade. A frozen instance must not delay a client for longer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Shorter than the protocol recommends, because a run lasts only seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// How long a client that leaves stays away before it returns.
const ABSENCE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(1_500));

/// The close code of a connection whose session continues on another connection.
const ELSEWHERE: u16 = 4504;

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The state that all clients of a run share.
#[derive(Debug)]
pub(crate) struct SharedClients {
    pub(crate) recorder: Recorder,
    /// The addresses at which clients reach gateways.
    pub(crate) entrance: Entrance,
    /// When this is true, no client leaves any more.
    pub(crate) is_calm: watch::Receiver<bool>,
    /// Number of active subscriptions.
    pub(crate) active: AtomicUsize,
    /// Number of subscriptions that have received the sentinel of their scope.
    pub(crate) sentinels: AtomicUsize,
    /// The open connections with instance and session, as reported by `welcome`.
    pub(crate) open: Open,
}

#[derive(Debug)]
pub(crate) struct Client {
    name: String,
    behaviour: Behaviour,
    transport: Transport,
    clients: Arc<SharedClients>,
    random: Random,
    /// The subscriptions, with the largest position of each.
    held: BTreeMap<String, Option<Position>>,
    last_instance: Option<usize>,
    /// The cookies that the client has received.
    jar: Jar,
    /// The session id from the first `welcome`.
    session: Option<String>,
    /// Another client that continues the same session.
    contention: Option<Contention>,
    /// The client has left that session to the other client.
    has_lost: bool,
    /// The subscriptions of `held` that are active on this connection.
    active: Vec<String>,
    /// The active subscriptions whose sentinel has been received.
    done: BTreeSet<String>,
    /// The state of a client that keeps only its session id.
    kept: Kept,
    /// The state of a client of an event stream: the id of the last complete event.
    last_event_id: Option<String>,
}

/// The next step on a connection.
enum Turn {
    Received(Option<Result<Message, tungstenite::Error>>),
    /// The client continues the contended session.
    Contends,
    /// The client asks again for the subscriptions of its session.
    Asks,
    /// The client sends a sign of life and reads nothing.
    Speaks,
    Leaves,
}

impl Client {
    pub(crate) fn new(
        name: String,
        behaviour: Behaviour,
        patterns: Vec<String>,
        clients: Arc<SharedClients>,
        random: Random,
    ) -> Self {
        let held = patterns.into_iter().map(|pattern| (pattern, None)).collect();
        let (active, done) = (Vec::new(), BTreeSet::new());
        Self {
            name,
            behaviour,
            transport: Transport::WebSocket,
            clients,
            random,
            held,
            last_instance: None,
            jar: Jar::new(),
            session: None,
            contention: None,
            has_lost: false,
            active,
            done,
            kept: Kept::default(),
            last_event_id: None,
        }
    }

    /// Sets this transport, if the client can use it. A client that keeps only its session id needs frames, so it stays
    /// with WebSockets. A slow client that does not leave also stays with WebSockets: the gateway must deal with it in
    /// every way, and the kernel could declare the client of an event stream dead before that.
    pub(crate) fn over(mut self, transport: Transport) -> Self {
        let Behaviour { keeps, leaves, reads_slowly, .. } = self.behaviour;
        if keeps != Keeps::Session && (leaves || !reads_slowly) {
            self.transport = transport;
        }
        self
    }

    /// The client leaves when the contention begins, and continues a session that another client also continues.
    pub(crate) fn with_contention(mut self, contention: Contention) -> Self {
        self.contention = Some(contention);
        self
    }

    /// Runs the client until its task is aborted.
    pub(crate) async fn run(mut self) {
        loop {
            let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            let why = match self.transport {
                Transport::WebSocket => match self.open(number).await {
                    Some(socket) => self.stay(number, socket).await,
                    None => None,
                },
                Transport::EventStream => self.listen(number).await,
            };
            let (from, to) = if why.is_some() { ABSENCE } else { BACKOFF };
            let calm = *self.clients.is_calm.borrow();
            let wait = if self.contends() {
                Contention::absence()
            } else if calm {
                BACKOFF.0
            } else {
                self.random.between(from, to)
            };
            sleep(wait).await;
        }
    }

    /// Opens a socket and sends the `hello`.
    async fn open(&mut self, number: u64) -> Option<Socket> {
        let (wanted, cookie) = self.choose();
        let user = self.contention.as_ref().map_or(&self.name, |contention| &contention.user);
        let token = token::sign(user);
        // A client that continues a session sends its token in `hello`. With the token in the upgrade, it would first
        // get another session.
        let in_upgrade = (self.behaviour.keeps != Keeps::Session).then_some(token.as_str());
        let reads_slowly = self.behaviour.reads_slowly;
        let approach = Approach { token: in_upgrade, wanted, cookie, reads_slowly };
        let connecting = self.clients.entrance.connect(approach, &mut self.jar);
        let (index, mut socket) = timeout(CONNECT_TIME_MAX, connecting).await.ok()??;
        let instance = self.clients.entrance.name(index).to_owned();
        self.last_instance = Some(index);
        if self.behaviour.keeps == Keeps::Nothing {
            self.held.values_mut().for_each(|position| *position = None);
            self.session = None;
        }
        let hello = match self.behaviour.keeps {
            Keeps::Session => self.kept.hello(&token, self.session.as_deref(), self.held.keys()),
            Keeps::Positions | Keeps::Nothing => self.hello(),
        };
        let client = self.name.clone();
        let transport = self.transport;
        self.clients.recorder.record(Event::Opened { client, connection: number, instance, reads_slowly, transport });
        if self.send(number, &mut socket, hello).await.is_err() {
            self.close(number, "the hello could not be sent", false, None);
            return None;
        }
        Some(socket)
    }

    fn hello(&self) -> String {
        let channels: Vec<Value> = self
            .held
            .iter()
            .map(|(channel, at)| json!({"channel": channel, "position": at.map(|at| at.to_string())}))
            .collect();
        json!({"type": "hello", "payload": {"session_id": self.session, "channels": channels}}).to_string()
    }

    async fn send(&self, number: u64, socket: &mut Socket, text: String) -> Result<(), Box<tungstenite::Error>> {
        self.clients.recorder.record(Event::Sent { connection: number, text: text.clone() });
        Ok(socket.send(Message::text(text)).await?)
    }

    /// Chooses an instance, most of the time another one than the last. A client that keeps only its session id may
    /// return to the same one. Behind HAProxy, a client that stays follows its cookies.
    fn choose(&mut self) -> (usize, Cookie) {
        if let Some(home) = self.behaviour.home {
            return (home, Cookie::Wanted);
        }
        let count = self.clients.entrance.len();
        let index = self.random.below(count);
        let is_same = Some(index) == self.last_instance && self.behaviour.keeps != Keeps::Session;
        let index = if is_same { (index + 1) % count } else { index };
        match self.behaviour.leaves {
            false => (index, Cookie::Kept),
            true => (index, self.clients.entrance.any_cookie(&mut self.random)),
        }
    }

    /// Reads until the connection ends or the client leaves. Returns `Some` if the client left.
    async fn stay(&mut self, number: u64, mut socket: Socket) -> Option<()> {
        let (shortest, longest) = self.behaviour.stay();
        let until = Instant::now() + self.random.between(shortest, longest);
        let clients = Arc::clone(&self.clients);
        let is_calm = || *clients.is_calm.borrow();
        let contest = self.contention.clone().filter(|_| !self.contends() && !self.has_lost);
        let mut pace = Pace::new(self.behaviour.reads_slowly);
        let (why, code) = loop {
            let (again, word) = (self.kept.asks_again_at(), pace.speaks_at());
            let turn = tokio::select! {
                message = socket.next(), if word.is_none() => Turn::Received(message),
                () = async { contest.clone().expect("it is looked at only then").begun().await }, if contest.is_some() => {
                    Turn::Contends
                }
                () = sleep_until(again.unwrap_or(until)), if again.is_some() => Turn::Asks,
                () = sleep_until(word.unwrap_or(until)), if word.is_some() => Turn::Speaks,
                () = sleep_until(until), if self.behaviour.leaves && !is_calm() => Turn::Leaves,
            };
            let said = match turn {
                Turn::Received(Some(Ok(Message::Text(text)))) => {
                    self.receive(number, text.as_str());
                    pace.has_read(is_calm(), &mut self.random);
                    self.say_what_is_due(number, &mut socket).await
                }
                Turn::Received(Some(Ok(Message::Close(frame)))) => {
                    let code = frame.as_ref().map(|frame| u16::from(frame.code));
                    if code == Some(ELSEWHERE) {
                        self.leave_to_the_other();
                    }
                    answer_close(&mut socket).await;
                    break (format!("closed by the gateway: {frame:?}"), code);
                }
                Turn::Received(Some(Ok(_))) => Ok(()),
                Turn::Received(Some(Err(error))) => break (format!("broken: {error}"), None),
                Turn::Received(None) => break (String::from("ended"), None),
                Turn::Asks => self.say_what_is_due(number, &mut socket).await,
                Turn::Speaks => {
                    pace.has_spoken(is_calm());
                    self.send(number, &mut socket, json!({"type": "ping"}).to_string()).await
                }
                Turn::Contends => {
                    self.close(number, "it goes on with another session", true, None);
                    self.session = contest.map(|contention| contention.session);
                    return Some(());
                }
                Turn::Leaves => {
                    let ending = Ending::draw(&mut self.random);
                    self.close(number, &format!("it wished to leave: {ending:?}"), true, None);
                    ending.end(socket).await;
                    return Some(());
                }
            };
            if let Err(error) = said {
                break (format!("broken: {error}"), None);
            }
        };
        self.close(number, &why, false, code);
        None
    }

    /// Sends what `docs/protocol.md` requires now of a client that keeps only its session id.
    async fn say_what_is_due(&mut self, number: u64, socket: &mut Socket) -> Result<(), Box<tungstenite::Error>> {
        for text in self.kept.take_due(Instant::now()) {
            self.send(number, socket, text).await?;
        }
        Ok(())
    }

    /// Begins a new session, so that the checker has something to judge. The checker decides whether the other
    /// disconnects had a reason.
    fn leave_to_the_other(&mut self) {
        if let Some(contention) = self.contention.as_ref().filter(|_| self.contends()) {
            contention.replaced.fetch_add(1, Ordering::Relaxed);
            (self.session, self.has_lost) = (None, true);
        }
    }

    /// Whether the client continues the contended session.
    fn contends(&self) -> bool {
        self.contention.as_ref().is_some_and(|contention| self.session.as_ref() == Some(&contention.session))
    }

    fn close(&mut self, number: u64, why: &str, intended: bool, code: Option<u16>) {
        self.kept.ended();
        self.clients.active.fetch_sub(self.active.len(), Ordering::Relaxed);
        self.active.clear();
        self.clients.open().remove(&number);
        self.clients.recorder.record(Event::Closed { connection: number, why: why.to_owned(), intended, code });
    }

    fn welcome(&mut self, number: u64, payload: &Value) {
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        // The token is in the upgrade, so `welcome` arrives before the `hello` that names an earlier session.
        let session = match self.transport {
            Transport::WebSocket => self.session.get_or_insert_with(|| text("session_id")).clone(),
            Transport::EventStream => text("session_id"),
        };
        self.clients.open().insert(number, (text("instance"), session));
    }

    fn receive(&mut self, number: u64, text: &str) {
        self.clients.recorder.record(Event::Received { connection: number, text: text.to_owned() });
        self.take(number, text);
    }

    /// Does exactly what `docs/protocol.md` tells clients to do.
    fn take(&mut self, number: u64, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let is_message = frame.get("timestamp").is_some();
        let channel = frame["channel"].as_str().unwrap_or_default();
        let kind = frame["type"].as_str().unwrap_or_default();
        let at = match kind {
            _ if is_message => &frame["position"],
            "gap" => &frame["payload"]["upto"],
            "subscribed" | "position" => &frame["position"],
            "welcome" => return self.welcome(number, &frame["payload"]),
            "restored" => return self.kept.restored(&frame["payload"], self.held.keys()),
            "error" => return self.kept.refused(&frame["payload"], Instant::now()),
            _ => return,
        };
        let at: Option<Position> = at.as_str().and_then(|at| at.parse().ok());
        for (pattern, held) in &mut self.held {
            let is_meant = if is_message { matches(pattern, channel) } else { pattern == channel };
            // A `subscribed` that does not resume moves nothing: its `gap` does.
            let counts = is_message || kind != "subscribed" || held.is_none();
            if is_meant && counts && at > *held {
                *held = at;
            }
        }
        if is_message && frame["payload"]["sentinel"] == true {
            for pattern in self.held.keys().filter(|pattern| matches(pattern, channel)) {
                if self.done.insert(pattern.clone()) {
                    self.clients.sentinels.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if !is_message && kind == "subscribed" && at.is_some() {
            self.kept.confirmed(channel);
        }
        if !is_message && kind == "subscribed" && at.is_some() && !self.active.iter().any(|name| name == channel) {
            self.active.push(channel.to_owned());
            self.clients.active.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SharedClients {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, (String, String)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn matches(pattern: &str, channel: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == channel, |stem| channel.len() > stem.len() && channel.starts_with(stem))
}
