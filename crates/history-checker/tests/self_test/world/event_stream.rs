//! Event streams: the request says everything, and ids tell where the client resumes.

use history_checker::{Event, Position};
use serde_json::{Value, json};

use super::{Client, Entry, SCOPES, World};

impl World {
    /// The client sends back its last id. It has no other.
    pub(super) fn request(
        &mut self,
        client: usize,
        connection: u64,
        session: Option<String>,
        asked: &[Option<Position>],
    ) {
        let Client { patterns, last_id, .. } = &self.clients[client];
        let target = format!("/sse?channels={}", patterns.join(","));
        self.write(Event::Requested { connection, target, last_event_id: last_id.clone() });
        // A client that was cut before its first id begins anew.
        let session = session.filter(|_| self.clients[client].last_id.is_some());
        self.welcome(client, connection, session);
        for (scope, asked) in asked.iter().enumerate() {
            self.subscribe(client, scope, connection, *asked);
        }
    }

    /// An event with the id that tells what the client has now, if that has changed.
    pub(super) fn receive_event(&mut self, client: usize, connection: u64, frame: &Value) {
        let text = self.event(client, frame);
        self.write(Event::Received { connection, text });
        self.keep_id(client);
    }

    /// An id alone.
    pub(super) fn receive_id(&mut self, client: usize, connection: u64) {
        let text = format!("id: {}\n\n", self.id(client));
        self.write(Event::Received { connection, text });
        self.keep_id(client);
    }

    /// The connection ends amid an event. The client discards what it has of it, and will receive all of it again.
    pub(super) fn cut_an_event(&mut self, client: usize, connection: u64) {
        let scope = self.random.below(SCOPES.len());
        let sent = self.clients[client].sent[scope];
        let Some(Entry::Message { position, channel, value }) = self.scopes[scope].history.get(sent) else { return };
        let (at, position) = (self.clients[client].at[scope], *position);
        let message = message(channel, value, position);
        self.clients[client].at[scope] = Some(position);
        let text = self.event(client, &message);
        self.clients[client].at[scope] = at;
        // All of its lines may be there, and the blank one not.
        let cut = if self.random.one_in(2) { text.len() - 1 } else { 1 + self.random.below(text.len() - 1) };
        self.write(Event::Received { connection, text: text[..cut].to_owned() });
    }

    fn event(&self, client: usize, frame: &Value) -> String {
        let id = Some(self.id(client)).filter(|id| *id != self.clients[client].last_id.clone().unwrap_or_default());
        let has_position = self.clients[client].at.iter().any(Option::is_some);
        let id = id.filter(|_| has_position).map(|id| format!("id: {id}\n")).unwrap_or_default();
        let name = match frame.get("timestamp") {
            None => format!("event: {}\n", frame["type"].as_str().unwrap()),
            Some(_) => String::new(),
        };
        format!("{id}{name}data: {frame}\n\n")
    }

    fn id(&self, client: usize) -> String {
        let Client { session, patterns, at, .. } = &self.clients[client];
        let mut id = session.clone().unwrap_or_default();
        for (pattern, at) in patterns.iter().zip(at) {
            id += &format!(";{pattern}{}", at.map(|at| format!("/{at}")).unwrap_or_default());
        }
        id
    }

    fn keep_id(&mut self, client: usize) {
        if self.clients[client].at.iter().any(Option::is_some) {
            self.clients[client].last_id = Some(self.id(client));
        }
    }
}

fn message(channel: &str, value: &str, position: Position) -> Value {
    json!({"type": "note", "channel": channel, "payload": {"v": value}, "timestamp": "x", "position": position.to_string()})
}
