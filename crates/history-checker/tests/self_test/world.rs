//! A model of a cluster without errors. It writes a log in which the checker must find nothing.
//!
//! Publishers get every kind of answer. Clients connect and disconnect, with and without positions. A failover loses
//! messages that were acknowledged, and every client gets a gap. With `loses` false nothing is lost and there are no
//! gaps.

mod event_stream;
mod session;

use history_checker::{Event, Position, PublishAnswer, Record, Retry, Transport};
use serde_json::{Value, json};
use test_support::Random;

const SCOPES: [&str; 2] = ["collection:1", "system"];
const TOPICS: [&str; 2] = ["a", "b"];
const CLIENTS: usize = KEEPS.len();
const INSTANCES: usize = 3;
const KEEPS: [Keeps; 7] =
    [Keeps::Positions, Keeps::Positions, Keeps::Session, Keeps::Session, Keeps::LastId, Keeps::LastId, Keeps::Nothing];

/// The state of the model while it writes one history.
pub(crate) struct World {
    random: Random,
    loses: bool,
    records: Vec<Record>,
    scopes: Vec<Scope>,
    clients: Vec<Client>,
    next_value: usize,
    next_connection: u64,
    next_session: u64,
    /// The fault has begun.
    is_broken: bool,
}

struct Scope {
    generation: u64,
    offset: u64,
    /// The history in order; after a failover there is a doubt.
    history: Vec<Entry>,
}

enum Entry {
    Message {
        position: Position,
        channel: String,
        value: String,
    },
    /// Messages may have been lost here; the history continues after this position.
    Doubt(Position),
}

struct Client {
    name: String,
    /// One for each scope.
    patterns: Vec<String>,
    keeps: Keeps,
    connection: Option<u64>,
    /// The session of the last `welcome`.
    session: Option<String>,
    /// For each scope: the position that it keeps, and how many entries of the history it was sent.
    at: Vec<Option<Position>>,
    sent: Vec<usize>,
    /// For each scope: the position at which the subscription began, and the entry.
    began: Vec<(Position, usize)>,
    /// For each scope: the most entries of the history that it was ever sent.
    reached: Vec<usize>,
    /// The id of the last complete event.
    last_id: Option<String>,
}

/// What a client has when it reconnects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Positions,
    Session,
    /// The id of the last event: its connections are event streams.
    LastId,
    Nothing,
}

/// The history of this seed.
pub(crate) fn history(seed: u64, loses: bool) -> Vec<Record> {
    let mut random = Random::new(seed);
    let clients = (0..CLIENTS).map(|number| Client {
        name: format!("client-{number}"),
        patterns: SCOPES
            .iter()
            .map(|scope| if random.one_in(3) { format!("{scope}:{}", TOPICS[0]) } else { format!("{scope}:*") })
            .collect(),
        keeps: KEEPS[number],
        connection: None,
        session: None,
        at: vec![None; SCOPES.len()],
        sent: vec![0; SCOPES.len()],
        began: vec![(Position { generation: 0, offset: 0 }, 0); SCOPES.len()],
        reached: vec![0; SCOPES.len()],
        last_id: None,
    });
    let clients = clients.collect();
    let scopes =
        (7..).take(SCOPES.len()).map(|generation| Scope { generation, offset: 0, history: Vec::new() }).collect();
    let records = Vec::new();
    let (next_value, next_connection, next_session, is_broken) = (0, 0, 0, false);
    let mut world =
        World { random, loses, records, scopes, clients, next_value, next_connection, next_session, is_broken };
    world.run();
    world.records
}

impl World {
    fn run(&mut self) {
        self.write(Event::Run {
            fault: "model".into(),
            loses: self.loses,
            keyless: vec!["system".into()],
            no_history: vec![],
            local: vec![],
            newest: vec![],
            forgets: self.loses,
        });
        self.steps(84);
        self.is_broken = true;
        self.write(Event::FaultBegan);
        self.steps(14);
        if self.loses {
            self.fail_over();
        }
        self.steps(14);
        self.write(Event::FaultEnded { proof: "it is a model".into() });
        self.steps(56);
        for client in 0..CLIENTS {
            self.connect(client);
        }
        self.write(Event::Quiesced);
        for scope in 0..SCOPES.len() {
            self.store(scope, TOPICS[0], true);
        }
        for client in 0..CLIENTS {
            for scope in 0..SCOPES.len() {
                while self.deliver(client, scope) {}
            }
        }
        self.write(Event::End);
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            let (client, scope) = (self.random.below(CLIENTS), self.random.below(SCOPES.len()));
            match self.random.below(12) {
                0..=2 => self.publish(scope),
                3 => self.connect(client),
                4 => self.disconnect(client),
                5 => self.send_position(client, scope),
                _ => {
                    self.deliver(client, scope);
                }
            }
        }
    }

    fn write(&mut self, event: Event) {
        let at_us = self.records.len() as u64 * 1_000;
        self.records.push(Record { at_us, event });
    }

    fn receive(&mut self, connection: u64, frame: &Value) {
        match self.clients.iter().position(|client| client.connection == Some(connection)) {
            Some(client) if self.clients[client].keeps == Keeps::LastId => {
                self.receive_event(client, connection, frame)
            }
            _ => self.write(Event::Received { connection, text: frame.to_string() }),
        }
    }

    /// Publishes with any kind of answer. A message with an unknown outcome may be stored or not, and is tried again
    /// with its id.
    fn publish(&mut self, scope: usize) {
        let topic = TOPICS[self.random.below(TOPICS.len())];
        match self.random.below(8) {
            0 => {
                let value = self.send(scope, topic);
                self.write(Event::Answered { value, answer: PublishAnswer::Error("OOM command not allowed".into()) });
            }
            1 => {
                let value = self.send(scope, topic);
                self.write(Event::Answered { value, answer: PublishAnswer::Nothing("timed out".into()) });
            }
            2 => {
                let value = self.store(scope, topic, false);
                let again = Event::Publish {
                    value: value.clone(),
                    channel: format!("{}:{topic}", SCOPES[scope]),
                    via: Some("gw-0".into()),
                    retry: Retry::SameId,
                };
                self.write(again);
                let position = self.top(scope).to_string();
                let ack = json!({"type": "ack", "channel": "x", "payload": {"level": "durable"}, "position": position});
                self.write(Event::Answered { value, answer: PublishAnswer::Frame(ack.to_string()) });
            }
            3 => {
                self.store(scope, topic, false);
            }
            _ => {
                self.store(scope, topic, true);
            }
        }
    }

    fn send(&mut self, scope: usize, topic: &str) -> String {
        self.next_value += 1;
        let value = format!("v{}", self.next_value);
        let channel = format!("{}:{topic}", SCOPES[scope]);
        self.write(Event::Publish { value: value.clone(), channel, via: None, retry: Retry::No });
        value
    }

    fn store(&mut self, scope: usize, topic: &str, is_reported: bool) -> String {
        let value = self.send(scope, topic);
        let channel = format!("{}:{topic}", SCOPES[scope]);
        self.scopes[scope].offset += 1;
        let position = self.top(scope);
        self.scopes[scope].history.push(Entry::Message { position, channel, value: value.clone() });
        let answer =
            if is_reported { PublishAnswer::Reply(position.to_string()) } else { PublishAnswer::Nothing("cut".into()) };
        self.write(Event::Answered { value: value.clone(), answer });
        value
    }

    fn top(&self, scope: usize) -> Position {
        Position { generation: self.scopes[scope].generation, offset: self.scopes[scope].offset }
    }

    /// The newest messages are lost, even if clients have received them.
    fn fail_over(&mut self) {
        for scope in &mut self.scopes {
            let lost = self.random.below(4).min(scope.history.len());
            scope.history.truncate(scope.history.len() - lost);
            scope.generation += 10;
            scope.offset = 0;
            scope.history.push(Entry::Doubt(Position { generation: scope.generation, offset: 0 }));
        }
        for client in &mut self.clients {
            for (scope, sent) in client.sent.iter_mut().enumerate() {
                let doubt = self.scopes[scope].history.len() - 1;
                *sent = (*sent).min(doubt);
                client.began[scope].1 = client.began[scope].1.min(doubt);
                client.reached[scope] = client.reached[scope].min(doubt);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        if self.clients[client].connection.is_some() {
            return;
        }
        self.next_connection += 1;
        let connection = self.next_connection;
        let instance = format!("gw-{}", self.random.below(INSTANCES));
        self.clients[client].connection = Some(connection);
        let Client { name, keeps, session, at, .. } = &self.clients[client];
        let (name, keeps, session) = (name.clone(), *keeps, session.clone());
        let keeps_positions = matches!(keeps, Keeps::Positions | Keeps::LastId);
        let asked: Vec<Option<Position>> = at.iter().map(|at| at.filter(|_| keeps_positions)).collect();
        let transport = if keeps == Keeps::LastId { Transport::EventStream } else { Transport::WebSocket };
        self.write(Event::Opened { client: name, connection, instance, reads_slowly: false, transport });
        match (keeps, session) {
            (Keeps::LastId, session) => self.request(client, connection, session, &asked),
            (Keeps::Session, Some(session)) => self.come_back(client, connection, &session),
            (Keeps::Positions, session) => self.come(client, connection, session, &asked),
            (Keeps::Session | Keeps::Nothing, _) => self.come(client, connection, None, &asked),
        }
    }

    /// The client sends all its channels in its `hello`.
    fn come(&mut self, client: usize, connection: u64, session: Option<String>, asked: &[Option<Position>]) {
        let Client { patterns, keeps, .. } = &self.clients[client];
        let channels: Vec<Value> = patterns
            .iter()
            .zip(asked)
            .map(|(channel, at)| json!({"channel": channel, "position": at.map(|at| at.to_string())}))
            .collect();
        let restore = *keeps == Keeps::Session;
        let payload = json!({"token": "t", "session_id": session, "restore": restore, "channels": channels});
        self.write(Event::Sent { connection, text: json!({"type": "hello", "payload": payload}).to_string() });
        self.welcome(client, connection, session);
        for (scope, asked) in asked.iter().enumerate() {
            self.subscribe(client, scope, connection, *asked);
        }
    }

    fn subscribe(&mut self, client: usize, scope: usize, connection: u64, asked: Option<Position>) {
        let top = self.top(scope);
        let at = asked.unwrap_or(top);
        if asked.is_none() {
            self.clients[client].sent[scope] = self.scopes[scope].history.len();
            self.clients[client].began[scope] = (at, self.scopes[scope].history.len());
            self.clients[client].reached[scope] = self.scopes[scope].history.len();
        }
        self.clients[client].at[scope] = Some(at);
        let pattern = self.clients[client].patterns[scope].clone();
        let next = self.scopes[scope].history.get(self.clients[client].sent[scope]);
        // A client whose next entry is a doubt gets the gap at once, or before its first message.
        if let (Some(asked), Some(Entry::Doubt(upto)), true) = (asked, next, self.random.one_in(2)) {
            let upto = *upto;
            self.receive(connection, &json!({"type": "subscribed", "channel": pattern, "position": upto.to_string(), "payload": {"resumed": false, "degraded": false}}));
            self.gap(client, scope, connection, &pattern, asked, upto);
            return;
        }
        self.receive(connection, &json!({"type": "subscribed", "channel": pattern, "position": at.to_string(), "payload": {"resumed": asked.is_some(), "degraded": false}}));
    }

    fn gap(&mut self, client: usize, scope: usize, connection: u64, pattern: &str, after: Position, upto: Position) {
        let payload =
            json!({"after": after.to_string(), "upto": upto.to_string(), "reason": "failover", "certain": false});
        self.clients[client].at[scope] = Some(upto);
        self.clients[client].sent[scope] += 1;
        self.receive(connection, &json!({"type": "gap", "channel": pattern, "payload": payload}));
    }

    fn disconnect(&mut self, client: usize) {
        if let Some(connection) = self.clients[client].connection.take() {
            let intended = self.random.one_in(2);
            let is_event_stream = self.clients[client].keeps == Keeps::LastId;
            let code = if intended || is_event_stream { None } else { Some(1012) };
            if is_event_stream && self.random.one_in(2) {
                self.cut_an_event(client, connection);
            }
            self.write(Event::Closed { connection, why: "for the test".into(), intended, code });
        }
    }

    /// Delivers the next entry to the client, if there is one.
    fn deliver(&mut self, client: usize, scope: usize) -> bool {
        let Some(connection) = self.clients[client].connection else { return false };
        let pattern = self.clients[client].patterns[scope].clone();
        let at = self.clients[client].at[scope].expect("it is subscribed");
        match self.scopes[scope].history.get(self.clients[client].sent[scope]) {
            None => false,
            Some(Entry::Doubt(upto)) => {
                let upto = *upto;
                self.gap(client, scope, connection, &pattern, at, upto);
                true
            }
            Some(Entry::Message { position, channel, value }) => {
                let (position, channel, value) = (*position, channel.clone(), value.clone());
                self.clients[client].sent[scope] += 1;
                if pattern.ends_with('*') || pattern == channel {
                    self.clients[client].at[scope] = Some(position);
                    self.receive(connection, &json!({"type": "note", "channel": channel, "payload": {"v": value}, "timestamp": "2026-01-01T00:00:00Z", "position": position.to_string()}));
                }
                true
            }
        }
    }

    /// Sends the position of the last entry sent, which the filter may have hidden.
    fn send_position(&mut self, client: usize, scope: usize) {
        let Some(connection) = self.clients[client].connection else { return };
        let sent = self.clients[client].sent[scope];
        let Some(Entry::Message { position, .. }) = sent.checked_sub(1).map(|last| &self.scopes[scope].history[last])
        else {
            return;
        };
        let position = *position;
        if self.clients[client].at[scope] < Some(position) {
            self.clients[client].at[scope] = Some(position);
            if self.clients[client].keeps == Keeps::LastId {
                return self.receive_id(client, connection);
            }
            let pattern = self.clients[client].patterns[scope].clone();
            self.receive(
                connection,
                &json!({"type": "position", "channel": pattern, "position": position.to_string()}),
            );
        }
    }
}
