//! The rules for clients of an event stream. They keep what a browser keeps: the id of the last event that was complete.
//! Positions are the gateway's business, so each id must name what its client has received.

use super::Checker;
use crate::connection::SubscribeRequest;
use crate::event_stream::{Cursor, StreamEvent, requested_channels};
use crate::frame::event_name;
use crate::position::Position;
use crate::verdict::AnomalyKind;

/// Status codes from here on are of a server that failed, not of a client that asked wrongly.
const SERVER_FAILED: u16 = 500;

impl Checker {
    /// The channels stand in the target, the positions in the id.
    pub(super) fn requested(&mut self, number: u64, target: &str, last_event_id: Option<&str>) {
        let line = self.line;
        let Some(connection) = self.connections.get_mut(&number) else {
            return self.verdict.incomplete.push(format!("line {line}: requested on no open connection"));
        };
        let client = connection.client.clone();
        if last_event_id.is_none() {
            self.last_ids.remove(&client);
        } else if last_event_id != self.last_ids.get(&client).map(String::as_str) {
            let why = format!("line {line}: {client} sent back an id that is not its last one");
            self.verdict.incomplete.push(why);
        }
        let cursor = last_event_id.map(Cursor::read).unwrap_or_default();
        if last_event_id.is_some() {
            self.sessions.begin(&cursor.session, number, line);
            connection.session = Some(cursor.session);
        }
        for channel in requested_channels(target) {
            let after = cursor.channels.get(channel).copied().flatten();
            connection.asked.insert(channel.to_owned(), SubscribeRequest { after, line, restored: None });
        }
    }

    /// A browser does not come back after a status other than 200. Its page may, if a server failed.
    pub(super) fn refused_request(&mut self, number: u64, status: u16) {
        if status < SERVER_FAILED {
            self.refused(number, &format!("status {status}"));
        }
    }

    pub(super) fn event(&mut self, number: u64, text: &str) {
        let Some(connection) = self.connections.get(&number) else { return };
        let client = connection.client.clone();
        let Some(StreamEvent { name, data, id }) = StreamEvent::read(text) else { return };
        match &data {
            Some(data) => {
                if event_name(data) != name {
                    let detail = format!("the event is named {name:?}: {data}");
                    self.verdict.add(AnomalyKind::Unreadable, &client, detail, &[self.line]);
                }
                self.frame(number, data);
            }
            // An id alone says what a `position` says on a WebSocket.
            None => id.iter().for_each(|id| self.moved(number, &client, &Cursor::read(id))),
        }
        if let Some(id) = id {
            self.last_ids.insert(client.clone(), id);
        }
        if data.is_some() {
            self.check_id(number, &client);
        }
    }

    fn moved(&mut self, number: u64, client: &str, cursor: &Cursor) {
        let at_us = self.at_us;
        for (channel, position) in &cursor.channels {
            let Some(position) = *position else { continue };
            if self.reached(number, client, channel) < Some(position) {
                self.publications.mentioned(channel, position);
                if let Some(segment) = self.view(client, channel).current() {
                    segment.move_on(position, at_us);
                }
            }
        }
    }

    /// How far the client has received this channel, by its messages and gaps.
    fn reached(&mut self, number: u64, client: &str, channel: &str) -> Option<Position> {
        let connection = self.connections.get(&number)?;
        match connection.active.contains(channel) {
            true => self.view(client, channel).current().map(|segment| segment.at),
            false => connection.asked.get(channel)?.after,
        }
    }

    /// The id that the client has now must name what it has received, and no more: it would miss messages otherwise, or
    /// receive them twice.
    fn check_id(&mut self, number: u64, client: &str) {
        let Some(connection) = self.connections.get(&number) else { return };
        let channels: Vec<String> = connection.asked.keys().cloned().collect();
        let cursor = self.last_ids.get(client).map(|id| Cursor::read(id)).unwrap_or_default();
        for channel in channels {
            let named = cursor.channels.get(&channel).copied().flatten();
            let reached = self.reached(number, client, &channel);
            if named != reached {
                let text = |at: Option<Position>| at.map_or_else(|| "nothing".to_owned(), |at| at.to_string());
                let detail = format!("its id names {}, but it has received {}", text(named), text(reached));
                let place = format!("{client} {channel}");
                self.verdict.add(AnomalyKind::WrongResume, place, detail, &[self.line]);
            }
        }
    }
}
