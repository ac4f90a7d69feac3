//! Sessions that continue: with the id that `welcome` gave them, and with their subscriptions if the client keeps
//! nothing else.

use history_checker::{Event, Position};
use serde_json::json;

use super::{Client, Entry, SCOPES, World};

impl World {
    pub(super) fn welcome(&mut self, client: usize, connection: u64, session: Option<String>) {
        let session = session.unwrap_or_else(|| {
            self.next_session += 1;
            format!("{:032x}", self.next_session)
        });
        self.receive(
            connection,
            &json!({"type": "welcome", "payload": {"session_id": session, "expires_in_ms": 60_000}}),
        );
        self.clients[client].session = Some(session);
    }

    /// A client returns that keeps only the id of its session.
    pub(super) fn come_back(&mut self, client: usize, connection: u64, session: &str) {
        let payload = json!({"token": "t", "session_id": session, "restore": true});
        let hello = json!({"type": "hello", "payload": payload}).to_string();
        self.write(Event::Sent { connection, text: hello.clone() });
        self.welcome(client, connection, Some(session.to_owned()));
        if self.random.one_in(4) {
            let payload = json!({"code": "unavailable", "message": "m", "retryable": true, "retry_after_ms": 1});
            self.receive(connection, &json!({"type": "error", "payload": payload}));
            self.write(Event::Sent { connection, text: hello });
        }
        if self.loses && self.is_broken && self.random.one_in(3) {
            return self.begin_anew(client, connection);
        }
        let Client { sent, reached, .. } = &mut self.clients[client];
        let repeats_already = sent.iter().zip(&*reached).any(|(sent, reached)| sent < reached);
        reached.iter_mut().zip(sent).for_each(|(reached, sent)| *reached = (*reached).max(*sent));
        let repeats = repeats_already || self.random.one_in(2);
        let channels = self.clients[client].patterns.clone();
        let payload = json!({"found": true, "repeats": repeats, "channels": channels});
        self.receive(connection, &json!({"type": "restored", "payload": payload}));
        for scope in 0..SCOPES.len() {
            let at = self.recorded(client, scope, repeats);
            self.subscribe(client, scope, connection, Some(at));
        }
    }

    fn begin_anew(&mut self, client: usize, connection: u64) {
        self.receive(connection, &json!({"type": "restored", "payload": {"found": false}}));
        for scope in 0..SCOPES.len() {
            let subscribe = json!({"type": "subscribe", "channel": self.clients[client].patterns[scope]});
            self.write(Event::Sent { connection, text: subscribe.to_string() });
        }
        for scope in 0..SCOPES.len() {
            self.subscribe(client, scope, connection, None);
        }
    }

    /// The position of the record: after what was sent, or earlier, and never before a doubt.
    fn recorded(&mut self, client: usize, scope: usize, repeats: bool) -> Position {
        let (at, sent) = (self.clients[client].at[scope].expect("it was subscribed"), self.clients[client].sent[scope]);
        let (began_at, began) = self.clients[client].began[scope];
        let history = &self.scopes[scope].history;
        if matches!(history.get(sent), Some(Entry::Doubt(_))) {
            return at;
        }
        let doubt = history[..sent].iter().rposition(|entry| matches!(entry, Entry::Doubt(_)));
        let first = doubt.map_or(began, |doubt| began.max(doubt + 1)).min(sent);
        let back = if repeats { self.random.below(sent - first + 1) } else { 0 };
        self.clients[client].sent[scope] = sent - back;
        match (sent - back).checked_sub(1).map(|last| &self.scopes[scope].history[last]) {
            Some(Entry::Message { position, .. } | Entry::Doubt(position)) if sent - back > began => *position,
            _ => began_at,
        }
    }
}
