//! Errors of event streams: ids that do not tell what their client has received, and events that a browser dispatches
//! otherwise than they are meant.

use history_checker::{Event, Position, Record, StreamEvent, Transport};
use serde_json::Value;
use test_support::Random;

use super::{insert, pick};

/// The frame of a received text: of a WebSocket or of a complete event that has data.
pub(super) fn frame(text: &str) -> Option<Value> {
    let data = if text.starts_with('{') { text.to_owned() } else { StreamEvent::read(text)?.data? };
    Some(serde_json::from_str(&data).unwrap())
}

/// The id of the event on this line.
pub(super) fn id_at(history: &[Record], index: usize) -> Option<String> {
    match &history[index].event {
        Event::Received { text, .. } => StreamEvent::read(text)?.id,
        _ => None,
    }
}

/// A received frame as the transport of its connection has it.
pub(super) fn spoken(history: &[Record], before: usize, event: Event, id: Option<String>) -> Event {
    match event {
        Event::Received { connection, text }
            if text.starts_with('{') && is_event_stream(history, before, connection) =>
        {
            Event::Received { connection, text: event_text(&text, id.as_deref()) }
        }
        other => other,
    }
}

fn event_text(frame: &str, id: Option<&str>) -> String {
    let json: Value = serde_json::from_str(frame).unwrap();
    let name = json["type"].as_str().filter(|_| json.get("timestamp").is_none());
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}{name}data: {frame}\n\n")
}

fn is_event_stream(history: &[Record], before: usize, wanted: u64) -> bool {
    history[..before].iter().any(|record| {
        matches!(&record.event, Event::Opened { connection, transport: Transport::EventStream, .. } if *connection == wanted)
    })
}

/// A complete event: its line, its connection and its parts.
struct One {
    index: usize,
    connection: u64,
    event: StreamEvent,
}

fn events(history: &[Record]) -> Vec<One> {
    let one = |(index, record): (usize, &Record)| match &record.event {
        Event::Received { connection, text } if !text.starts_with('{') => {
            Some(One { index, connection: *connection, event: StreamEvent::read(text)? })
        }
        _ => None,
    };
    history.iter().enumerate().filter_map(one).collect()
}

fn of_messages(history: &[Record]) -> Vec<One> {
    let mut all = events(history);
    all.retain(|one| one.event.name.is_none() && one.event.data.is_some() && one.event.id.is_some());
    all
}

/// Puts these parts in place of the event on this line.
fn with(history: &[Record], one: &One, name: Option<&str>, data: Option<&str>, id: Option<&str>) -> Vec<Record> {
    let field = |field: &str, value: Option<&str>| value.map(|value| format!("{field}: {value}\n")).unwrap_or_default();
    let text = format!("{}{}{}\n", field("id", id), field("event", name), field("data", data));
    let mut history = history.to_vec();
    history[one.index].event = Event::Received { connection: one.connection, text };
    history
}

/// The id with one of its positions changed.
fn changed(id: &str, change: impl Fn(Position) -> Option<Position>) -> Option<String> {
    let mut parts: Vec<String> = id.split(';').map(str::to_owned).collect();
    let last = parts.iter_mut().rev().find(|part| part.contains('/'))?;
    let (channel, position) = last.split_once('/')?;
    *last = format!("{channel}/{}", change(position.parse().unwrap())?);
    Some(parts.join(";"))
}

pub(super) fn id_ahead(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = of_messages(history);
    let one = pick(&all, random)?;
    let id = changed(one.event.id.as_deref()?, |at| Some(Position { offset: at.offset + 1, ..at }))?;
    Some(with(history, one, None, one.event.data.as_deref(), Some(&id)))
}

pub(super) fn id_behind(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = of_messages(history);
    let one = pick(&all, random)?;
    Some(with(history, one, None, one.event.data.as_deref(), None))
}

pub(super) fn id_in_part(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = of_messages(history);
    let one = pick(&all, random)?;
    let id = one.event.id.as_deref()?;
    let (rest, last) = id.rsplit_once(';')?;
    last.contains('/').then(|| with(history, one, None, one.event.data.as_deref(), Some(rest)))
}

/// A message that a publisher was told of is missing, and its id is there.
pub(super) fn id_alone(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let replies = super::replies(history);
    let is_known = |one: &One| {
        let frame: Value = serde_json::from_str(one.event.data.as_deref().unwrap()).unwrap();
        replies.iter().any(|(_, value, _)| frame["payload"]["v"] == **value)
    };
    let all: Vec<One> = of_messages(history).into_iter().filter(is_known).collect();
    let one = pick(&all, random)?;
    Some(with(history, one, None, None, one.event.id.as_deref()))
}

/// A message of one connection comes again on the next connection of its client.
pub(super) fn repeat(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let client = |connection: u64| {
        history.iter().find_map(|record| match &record.event {
            Event::Opened { client, connection: of, .. } if *of == connection => Some(client.clone()),
            _ => None,
        })
    };
    let all = of_messages(history);
    let mut pairs = Vec::new();
    for one in &all {
        let is_later =
            |next: &&One| next.connection > one.connection && client(next.connection) == client(one.connection);
        pairs.extend(all.iter().find(is_later).map(|next| (one, next)));
    }
    let (one, next) = pick(&pairs, random)?;
    let text = one.event.data.clone()?;
    Some(insert(history, next.index, Event::Received { connection: next.connection, text }))
}

/// The gateway goes on after an event that was cut, as if its client had all of it.
pub(super) fn skip_the_cut_one(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = of_messages(history);
    let resumed = super::frames(history, |frame| frame["type"] == "subscribed" && frame["payload"]["resumed"] == true);
    let session = |id: &str| id.split(';').next().map(str::to_owned);
    let mut candidates = Vec::new();
    for (index, id) in cut_ids(history) {
        for (channel, position) in id.split(';').filter_map(|part| part.split_once('/')) {
            // The same message comes again, on the next connection of the client.
            let again = messages.iter().find(|one| {
                let frame: Value = serde_json::from_str(one.event.data.as_deref().unwrap()).unwrap();
                let is_same = frame["position"] == position && one.event.id.as_deref().and_then(session) == session(id);
                one.index > index && is_same
            });
            let subscribed = again.and_then(|again| {
                let is_it =
                    |one: &&super::Received| one.connection == again.connection && one.frame["channel"] == channel;
                resumed.iter().find(is_it)
            });
            candidates.extend(again.zip(subscribed).map(|(again, subscribed)| (again, subscribed, position)));
        }
    }
    let (again, subscribed, position) = pick(&candidates, random)?;
    let mut frame = subscribed.frame.clone();
    frame["position"] = Value::from(*position);
    let history = super::with(history, subscribed.index, super::text(subscribed.connection, &frame));
    Some(super::without(&history, again.index))
}

/// The ids of events that were cut after their id: line and id.
fn cut_ids(history: &[Record]) -> impl Iterator<Item = (usize, &str)> {
    history.iter().enumerate().filter_map(|(index, record)| match &record.event {
        Event::Received { text, .. } if !text.starts_with('{') && StreamEvent::read(text).is_none() => {
            Some((index, text.strip_prefix("id: ")?.split_once('\n')?.0))
        }
        _ => None,
    })
}

pub(super) fn name_a_message(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = of_messages(history);
    let one = pick(&all, random)?;
    Some(with(history, one, Some("note"), one.event.data.as_deref(), one.event.id.as_deref()))
}

pub(super) fn leave_out_a_name(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all: Vec<One> = events(history).into_iter().filter(|one| one.event.name.is_some()).collect();
    let one = pick(&all, random)?;
    Some(with(history, one, None, one.event.data.as_deref(), one.event.id.as_deref()))
}

pub(super) fn refuse(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let requested = |(index, record): (usize, &Record)| match &record.event {
        Event::Requested { connection, .. } => Some((index, *connection)),
        _ => None,
    };
    let all: Vec<_> = history.iter().enumerate().filter_map(requested).collect();
    let (index, connection) = *pick(&all, random)?;
    let status = [400, 401, 403][random.below(3)];
    Some(insert(history, index + 1, Event::Refused { connection, status }))
}
