//! Errors of sessions: for clients that keep nothing else, and for clients that are told not to reconnect.

use history_checker::{Event, Position, PublishAnswer, Record};
use serde_json::{Value, json};
use test_support::Random;

use super::{Received, frames, insert, messages, pick, position, replies, scope, text, with, without};

/// The answers that restored a session.
fn found(history: &[Record]) -> Vec<Received> {
    frames(history, |frame| frame["type"] == "restored" && frame["payload"]["found"] == true)
}

/// The subscriptions of a restored session.
fn subscribed(history: &[Record], restored: &Received) -> Vec<Received> {
    let mut all = frames(history, |frame| frame["type"] == "subscribed");
    all.retain(|one| one.connection == restored.connection && one.index > restored.index);
    all
}

/// The positions that the client had received on the subscription that is restored here.
fn had(history: &[Record], again: &Received) -> Vec<Position> {
    let client = |connection: u64| {
        history.iter().find_map(|record| match &record.event {
            Event::Opened { client, connection: of, .. } if *of == connection => Some(client.clone()),
            _ => None,
        })
    };
    let own = client(again.connection);
    let stem = again.frame["channel"].as_str().unwrap().trim_end_matches('*').to_owned();
    let is_its = |one: &&Received| {
        one.index < again.index
            && one.frame["channel"].as_str().unwrap().starts_with(&stem)
            && client(one.connection) == own
    };
    messages(history).iter().filter(is_its).map(|one| position(&one.frame)).collect()
}

pub(super) fn empty(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = found(history);
    let one = pick(&all, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["channels"] = json!([]);
    Some(with(history, one.index, text(one.connection, &frame)))
}

pub(super) fn in_part(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = found(history);
    let one = pick(&all, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["channels"].as_array_mut().unwrap().pop();
    Some(with(history, one.index, text(one.connection, &frame)))
}

pub(super) fn with_more(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let all = found(history);
    let one = pick(&all, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["channels"].as_array_mut().unwrap().push(json!("collection:other"));
    Some(with(history, one.index, text(one.connection, &frame)))
}

/// Only where no record can have been lost: without a loss, or before the fault.
pub(super) fn not_found(history: &[Record], loses: bool, random: &mut Random) -> Option<Vec<Record>> {
    let began = history.iter().position(|record| record.event == Event::FaultBegan)?;
    let all: Vec<_> = found(history).into_iter().filter(|one| !loses || one.index < began).collect();
    let one = pick(&all, random)?;
    Some(with(history, one.index, text(one.connection, &json!({"type": "restored", "payload": {"found": false}}))))
}

/// On a connection that stays open until the end.
pub(super) fn unanswered(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let is_open = |one: &Received| {
        !history
            .iter()
            .any(|record| matches!(record.event, Event::Closed { connection, .. } if connection == one.connection))
    };
    let all: Vec<_> = found(history).into_iter().filter(is_open).collect();
    let one = pick(&all, random)?;
    Some(without(history, one.index))
}

/// A restore that continues from an earlier position than the client had is changed to claim that nothing repeats.
pub(super) fn repeat(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let goes_back = |again: &Received| {
        let resumed = again.frame["payload"]["resumed"] == true;
        resumed && had(history, again).iter().any(|had| *had > position(&again.frame))
    };
    let is_it =
        |one: &Received| one.frame["payload"]["repeats"] == true && subscribed(history, one).iter().any(goes_back);
    let all: Vec<_> = found(history).into_iter().filter(is_it).collect();
    let one = pick(&all, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["repeats"] = json!(false);
    Some(with(history, one.index, text(one.connection, &frame)))
}

/// A message that the client had comes again after an exact restore.
pub(super) fn give_again(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let mut candidates = Vec::new();
    for one in found(history).iter().filter(|one| one.frame["payload"]["repeats"] == false) {
        for again in subscribed(history, one).iter().filter(|again| again.frame["payload"]["resumed"] == true) {
            let had = had(history, again);
            let is_last = |message: &&Received| had.iter().max() == Some(&position(&message.frame));
            let of_scope = |message: &&Received| scope(&message.frame["channel"]) == scope(&again.frame["channel"]);
            let all = messages(history);
            let last = all.iter().filter(|m| m.index < again.index).filter(of_scope).find(is_last);
            candidates.extend(last.map(|last| (again.index, one.connection, last.frame.clone())));
        }
    }
    let (index, connection, frame) = pick(&candidates, random)?;
    Some(insert(history, index + 1, text(*connection, frame)))
}

/// The subscription continues after the first message that it should have received.
pub(super) fn skip_ahead(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let replies = replies(history);
    let mut candidates = Vec::new();
    for one in found(history) {
        for again in subscribed(history, &one).into_iter().filter(|again| again.frame["payload"]["resumed"] == true) {
            let had = had(history, &again);
            let is_next = |frame: &Received| {
                frame.connection == again.connection
                    && frame.index > again.index
                    && frame.frame["channel"].is_string()
                    && scope(&frame.frame["channel"]) == scope(&again.frame["channel"])
            };
            let next = frames(history, |_| true).into_iter().find(is_next);
            // The client must not have had it, and a publisher must have been told of it.
            let is_missed = |next: &Received| {
                next.frame.get("timestamp").is_some()
                    && !had.contains(&position(&next.frame))
                    && replies.iter().any(|(_, value, _)| next.frame["payload"]["v"] == **value)
            };
            candidates.extend(next.filter(is_missed).map(|next| (again, next)));
        }
    }
    let (again, next) = pick(&candidates, random)?;
    let mut frame = again.frame.clone();
    frame["position"] = next.frame["position"].clone();
    Some(without(&with(history, again.index, text(again.connection, &frame)), next.index))
}

/// The subscription continues from a position before everything that the client was ever sent.
pub(super) fn go_behind(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let resumed = |one: &Received| {
        let all = subscribed(history, one);
        all.into_iter().find(|again| again.frame["payload"]["resumed"] == true)
    };
    let all: Vec<_> = found(history).iter().filter_map(resumed).collect();
    let one = pick(&all, random)?;
    let mut frame = one.frame.clone();
    frame["position"] = json!("1-1");
    Some(with(history, one.index, text(one.connection, &frame)))
}

/// On a connection that stays open until the end.
pub(super) fn leave_out(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let is_open = |one: &Received| {
        !history
            .iter()
            .any(|record| matches!(record.event, Event::Closed { connection, .. } if connection == one.connection))
    };
    let all: Vec<_> = found(history).into_iter().filter(is_open).collect();
    let one = pick(&all, random)?;
    let again = subscribed(history, one);
    Some(without(history, pick(&again, random)?.index))
}

pub(super) fn close(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let closed = |(index, record): (usize, &Record)| match record.event {
        Event::Closed { connection, .. } => Some((index, connection)),
        _ => None,
    };
    let all: Vec<_> = history.iter().enumerate().filter_map(closed).collect();
    let (index, connection) = *pick(&all, random)?;
    let code = Some([4504, 4500, 1000, 1008][random.below(4)]);
    Some(with(history, index, Event::Closed { connection, why: "spoilt".into(), intended: false, code }))
}

/// Inserts this frame for a client that is connected.
fn say(history: &[Record], random: &mut Random, frame: &Value) -> Option<Vec<Record>> {
    let messages = messages(history);
    let one = pick(&messages, random)?;
    Some(insert(history, one.index, text(one.connection, frame)))
}

pub(super) fn dismiss(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    say(history, random, &json!({"type": "bye", "payload": {"code": 4504, "reason": "r", "reconnect": false}}))
}

pub(super) fn refuse(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let payload = json!({"code": "wrong_identity", "message": "m", "retryable": false});
    say(history, random, &json!({"type": "error", "payload": payload}))
}

pub(super) fn refuse_publish(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let refused = |(index, record): (usize, &Record)| match &record.event {
        Event::Answered { value, answer: PublishAnswer::Error(_) } => Some((index, value.clone())),
        _ => None,
    };
    let all: Vec<_> = history.iter().enumerate().filter_map(refused).collect();
    let (index, value) = pick(&all, random)?.clone();
    let payload = json!({"code": "forbidden", "message": "m", "retryable": false});
    let answer = PublishAnswer::Frame(json!({"type": "error", "payload": payload}).to_string());
    Some(with(history, index, Event::Answered { value, answer }))
}
