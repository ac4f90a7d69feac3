//! Clients of event streams. They keep nothing but the last id, as browsers do, and come back by it. Their ids must say
//! what a client of a WebSocket would have stored after the same frames.

use std::borrow::Cow;

use serde_json::Value;
use wire::{Position, Resume};

use super::client::PendingSubscribe;
use super::schedule::Wire;
use super::view::View;
use super::world::World;
use crate::auth::token::Identity;
use crate::protocol::cursor::Cursor;
use crate::protocol::outbound::Frame;
use crate::shard::handoff::{EventStreamOpening, Opening};

/// What the run knows of a client of event streams.
#[derive(Debug, Default)]
pub(super) struct EventStreamClient {
    last_event_id: Option<String>,
}

/// One event, as HTML's parser dispatches it.
#[derive(Debug, Default)]
pub(super) struct Event {
    id: Option<String>,
    data: Vec<String>,
}

/// Removes one complete event from the beginning of `bytes`.
pub(super) fn take_event(bytes: &mut Vec<u8>) -> Result<Option<Event>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\n\n") else { return Ok(None) };
    let text = String::from_utf8(bytes.drain(..end + 2).collect()).map_err(|error| error.to_string())?;
    let mut event = Event::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("data", data)) => event.data.push(data.to_owned()),
            Some(("event" | "retry", _)) => {}
            _ => return Err(format!("a line that is no field: {line:?}")),
        }
    }
    Ok(Some(event))
}

impl World {
    /// What the request of an event stream says: the cursor, or the channels of the address.
    pub(super) fn stream_opening(&mut self, index: usize, identity: Identity) -> Opening {
        let stream = self.clients[index].stream.as_ref().expect("it is a client of event streams");
        let cursor = stream.last_event_id.as_deref().map(|id| Cursor::parse(id).expect("an id of the gateway"));
        let (session, channels) = match cursor {
            Some(Cursor { session, channels }) => (Some(session), channels),
            None => {
                let channels = self.clients[index].wanted.keys().map(|channel| (channel.clone(), None));
                (None, channels.collect())
            }
        };
        let asked = channels.iter().map(|(channel, given)| PendingSubscribe {
            id: String::new(),
            channel: channel.clone(),
            given: *given,
            forged: false,
            restored: None,
        });
        self.clients[index].asked = asked.collect();
        let resume = |(channel, position)| Resume { channel: Cow::Owned(channel), position };
        let channels = channels.into_iter().map(resume).collect();
        let (head, presence) = (Frame::new(Vec::new()), Vec::new());
        Opening::EventStream(Box::new(EventStreamOpening { head, identity, session, channels, presence }))
    }

    /// Takes in one event of a client. Returns whether the stream ends with it.
    pub(super) fn stream_event(&mut self, wire: Wire, event: Event) -> Result<bool, String> {
        let Event { id, data } = event;
        let frame: Option<Value> = match data.is_empty() {
            true => None,
            false => Some(serde_json::from_str(&data.join("\n")).map_err(|error| format!("{error} in an event"))?),
        };
        if let Some(frame) = &frame {
            self.frame(wire.client, frame)?;
        }
        if let Some(id) = id {
            self.note(|| format!("client {} reads the id {id}", wire.client));
            let cursor = Cursor::parse(&id).ok_or_else(|| format!("an id that is no cursor: {id}"))?;
            if frame.is_none() {
                self.move_views(wire.client, &cursor)?;
            }
            self.compare_with_views(wire.client, &cursor)?;
            self.clients[wire.client].stream.as_mut().expect("checked by the caller").last_event_id = Some(id);
        }
        Ok(frame.is_some_and(|frame| frame["type"] == "bye"))
    }

    /// An id alone stands for `position` frames.
    fn move_views(&mut self, index: usize, cursor: &Cursor) -> Result<(), String> {
        for (channel, position) in &cursor.channels {
            let stored = self.clients[index].views.get(channel).and_then(View::in_id);
            if let Some(position) = position.filter(|position| stored.is_some_and(|stored| *position > stored)) {
                self.with_view(index, channel, |view, judge| view.position(position, judge))?;
            }
        }
        Ok(())
    }

    fn compare_with_views(&self, index: usize, cursor: &Cursor) -> Result<(), String> {
        let client = &self.clients[index];
        for (channel, position) in &cursor.channels {
            let stored: Option<Position> = match client.views.get(channel) {
                Some(view) => view.in_id(),
                None => client.asked.iter().find(|asked| asked.channel == *channel).and_then(|asked| asked.given),
            };
            if *position != stored {
                return Err(format!(
                    "the id says {position:?} of {channel}, and a client would have stored {stored:?}"
                ));
            }
        }
        match cursor.channels.len() == client.wanted.len() {
            true => Ok(()),
            false => Err(format!("the id names {} of {} channels", cursor.channels.len(), client.wanted.len())),
        }
    }
}
