//! The errors that the checker must find, each applied to a correct history.

mod event_stream;
mod session;

use history_checker::{AnomalyKind, Event, Position, PublishAnswer, Record, Retry};
use serde_json::{Value, json};
use test_support::Random;

/// One way to spoil a history, and the kinds of anomalies that the checker may report.
pub(crate) struct Mutation {
    pub(crate) name: &'static str,
    pub(crate) kinds: &'static [AnomalyKind],
    /// Returns the spoilt history; none if it is not possible in this one.
    pub(crate) mutate: fn(&[Record], bool, &mut Random) -> Option<Vec<Record>>,
}

pub(crate) const MUTATIONS: &[Mutation] = &[
    Mutation { name: "one position names two", kinds: &[AnomalyKind::OffsetReused], mutate: reuse_an_offset },
    Mutation { name: "a message is skipped", kinds: &[AnomalyKind::SilentGap], mutate: skip_one },
    Mutation {
        name: "a gap frame is left out",
        kinds: &[AnomalyKind::SilentGap, AnomalyKind::WrongResume],
        mutate: leave_out_a_gap,
    },
    Mutation { name: "a subscription begins too late", kinds: &[AnomalyKind::SilentGap], mutate: begin_late },
    Mutation { name: "a message comes twice", kinds: &[AnomalyKind::Duplicate], mutate: repeat_one },
    Mutation { name: "an id is stored twice", kinds: &[AnomalyKind::Duplicate], mutate: store_twice },
    Mutation {
        name: "two messages change places",
        kinds: &[AnomalyKind::Reorder, AnomalyKind::WrongResume],
        mutate: swap_two,
    },
    Mutation { name: "the last one never comes", kinds: &[AnomalyKind::LostTail], mutate: drop_the_last },
    Mutation { name: "a client stays away", kinds: &[AnomalyKind::LostTail], mutate: stay_away },
    Mutation { name: "nobody sent it", kinds: &[AnomalyKind::Phantom], mutate: invent },
    Mutation { name: "it was refused", kinds: &[AnomalyKind::Phantom], mutate: refuse },
    Mutation { name: "nobody asked for it", kinds: &[AnomalyKind::Phantom], mutate: misdirect },
    Mutation { name: "resumed from elsewhere", kinds: &[AnomalyKind::WrongResume], mutate: resume_elsewhere },
    Mutation { name: "not resumed and no gap", kinds: &[AnomalyKind::WrongResume], mutate: resume_not },
    Mutation { name: "resumed without a position", kinds: &[AnomalyKind::WrongResume], mutate: resume_nothing },
    Mutation { name: "a gap and nothing lost", kinds: &[AnomalyKind::FalseGap], mutate: gap_for_nothing },
    Mutation { name: "the publisher gets another position", kinds: &[AnomalyKind::Divergent], mutate: diverge },
    Mutation { name: "no frame of the protocol", kinds: &[AnomalyKind::Unreadable], mutate: babble },
    Mutation { name: "a session comes back empty", kinds: &[AnomalyKind::LostSubscription], mutate: session::empty },
    Mutation {
        name: "a session comes back in part",
        kinds: &[AnomalyKind::LostSubscription],
        mutate: session::in_part,
    },
    Mutation { name: "a session comes back with more", kinds: &[AnomalyKind::Phantom], mutate: session::with_more },
    Mutation { name: "a session is not found", kinds: &[AnomalyKind::FalseNotFound], mutate: session::not_found },
    Mutation { name: "a session is never answered", kinds: &[AnomalyKind::LostTail], mutate: session::unanswered },
    Mutation { name: "it was to be exact, and repeats", kinds: &[AnomalyKind::WrongResume], mutate: session::repeat },
    Mutation {
        name: "it was to be exact, and one comes again",
        kinds: &[AnomalyKind::Duplicate, AnomalyKind::WrongResume],
        mutate: session::give_again,
    },
    Mutation { name: "restored from too far ahead", kinds: &[AnomalyKind::SilentGap], mutate: session::skip_ahead },
    Mutation { name: "restored from before it began", kinds: &[AnomalyKind::WrongResume], mutate: session::go_behind },
    Mutation { name: "restored and never subscribed", kinds: &[AnomalyKind::LostTail], mutate: session::leave_out },
    Mutation { name: "a live session is closed for good", kinds: &[AnomalyKind::TerminalCode], mutate: session::close },
    Mutation { name: "a bye for good", kinds: &[AnomalyKind::TerminalCode], mutate: session::dismiss },
    Mutation { name: "an error for good", kinds: &[AnomalyKind::TerminalCode], mutate: session::refuse },
    Mutation {
        name: "a publish refused for good",
        kinds: &[AnomalyKind::TerminalCode],
        mutate: session::refuse_publish,
    },
    Mutation { name: "an id is ahead", kinds: &[AnomalyKind::WrongResume], mutate: event_stream::id_ahead },
    Mutation { name: "an id stays behind", kinds: &[AnomalyKind::WrongResume], mutate: event_stream::id_behind },
    Mutation { name: "an id loses a channel", kinds: &[AnomalyKind::WrongResume], mutate: event_stream::id_in_part },
    Mutation {
        name: "an id comes without its message",
        kinds: &[AnomalyKind::SilentGap, AnomalyKind::LostTail],
        mutate: event_stream::id_alone,
    },
    Mutation {
        name: "an event stream repeats a message",
        kinds: &[AnomalyKind::Duplicate],
        mutate: event_stream::repeat,
    },
    Mutation {
        name: "an event is cut, and its id counts",
        kinds: &[AnomalyKind::WrongResume],
        mutate: event_stream::skip_the_cut_one,
    },
    Mutation {
        name: "a message has the name of an event",
        kinds: &[AnomalyKind::Unreadable],
        mutate: event_stream::name_a_message,
    },
    Mutation {
        name: "a control frame has no name",
        kinds: &[AnomalyKind::Unreadable],
        mutate: event_stream::leave_out_a_name,
    },
    Mutation {
        name: "an event stream is refused for good",
        kinds: &[AnomalyKind::TerminalCode],
        mutate: event_stream::refuse,
    },
];

/// A received message: its line, its connection and its frame.
struct Received {
    index: usize,
    connection: u64,
    frame: Value,
}

fn frames(history: &[Record], wanted: impl Fn(&Value) -> bool) -> Vec<Received> {
    let frame = |(index, record): (usize, &Record)| match &record.event {
        Event::Received { connection, text } => {
            Some(Received { index, connection: *connection, frame: event_stream::frame(text)? })
        }
        _ => None,
    };
    history.iter().enumerate().filter_map(frame).filter(|received| wanted(&received.frame)).collect()
}

fn messages(history: &[Record]) -> Vec<Received> {
    frames(history, |frame| frame.get("timestamp").is_some())
}

fn position(frame: &Value) -> Position {
    frame["position"].as_str().unwrap().parse().unwrap()
}

fn scope(channel: &Value) -> &str {
    if channel.as_str().unwrap().starts_with("system") { "system" } else { "collection:1" }
}

fn pick<'t, T>(from: &'t [T], random: &mut Random) -> Option<&'t T> {
    if from.is_empty() { None } else { from.get(random.below(from.len())) }
}

fn with(history: &[Record], index: usize, event: Event) -> Vec<Record> {
    let event = event_stream::spoken(history, index, event, event_stream::id_at(history, index));
    let mut history = history.to_vec();
    history[index].event = event;
    history
}

fn without(history: &[Record], index: usize) -> Vec<Record> {
    let mut history = history.to_vec();
    history.remove(index);
    history
}

fn insert(history: &[Record], index: usize, event: Event) -> Vec<Record> {
    let event = event_stream::spoken(history, index, event, None);
    let mut history = history.to_vec();
    let at_us = history[index - 1].at_us;
    history.insert(index, Record { at_us, event });
    history
}

fn text(connection: u64, frame: &Value) -> Event {
    Event::Received { connection, text: frame.to_string() }
}

/// Replies with a position: line, value, position.
fn replies(history: &[Record]) -> Vec<(usize, String, String)> {
    let reply = |(index, record): (usize, &Record)| match &record.event {
        Event::Answered { value, answer: PublishAnswer::Reply(position) } => {
            Some((index, value.clone(), position.clone()))
        }
        _ => None,
    };
    history.iter().enumerate().filter_map(reply).collect()
}

fn channel_of(history: &[Record], wanted: &str) -> String {
    let channel = |record: &Record| match &record.event {
        Event::Publish { value, channel, .. } if value == wanted => Some(channel.clone()),
        _ => None,
    };
    history.iter().find_map(channel).unwrap()
}

fn reuse_an_offset(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let replies = replies(history);
    let (_, of, taken) = pick(&replies, random)?;
    let same = |value: &str| scope(&json!(channel_of(history, value))) == scope(&json!(channel_of(history, of)));
    let (index, value, _) = replies.iter().find(|(_, value, _)| value != of && same(value))?;
    Some(with(history, *index, Event::Answered { value: value.clone(), answer: PublishAnswer::Reply(taken.clone()) }))
}

/// Removes a message that is followed by another on the same connection, so that it is not the last one.
fn skip_one(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = messages(history);
    let is_followed = |one: &&Received| {
        let follows = |other: &Received| {
            other.index > one.index
                && other.connection == one.connection
                && other.frame["channel"] == one.frame["channel"]
        };
        messages.iter().any(follows)
    };
    // A subscription to one topic cannot miss a message that is known from nowhere else; messages of `b` are also
    // received by the subscriptions to all topics.
    let replies = replies(history);
    let is_known = |one: &&Received| {
        one.frame["channel"].as_str().unwrap().ends_with(":b")
            || replies.iter().any(|(_, value, _)| one.frame["payload"]["v"] == **value)
    };
    let followed: Vec<&Received> = messages.iter().filter(is_followed).filter(is_known).collect();
    Some(without(history, pick(&followed, random)?.index))
}

/// Removes a gap in which a message is known to be missing: the client was before the beginning of the doubt.
fn leave_out_a_gap(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let gaps = frames(history, |frame| frame["type"] == "gap");
    let lost = |gap: &&Received| {
        let bound = |name: &str| gap.frame["payload"][name].as_str().unwrap().parse::<Position>().unwrap();
        let stem = gap.frame["channel"].as_str().unwrap().trim_end_matches('*').to_owned();
        let is_in = |text: &str| {
            (bound("after") < text.parse().unwrap()) && (text.parse::<Position>().unwrap() <= bound("upto"))
        };
        replies(history).iter().any(|(_, value, at)| channel_of(history, value).starts_with(&stem) && is_in(at))
    };
    let messages = messages(history);
    let follows = |gap: &&Received| {
        messages.iter().any(|m| {
            let is_here = m.connection == gap.connection && m.index > gap.index;
            is_here && scope(&m.frame["channel"]) == scope(&gap.frame["channel"])
        })
    };
    let gaps: Vec<&Received> = gaps.iter().filter(lost).filter(follows).collect();
    Some(without(history, pick(&gaps, random)?.index))
}

/// Moves the beginning of a new subscription after its first message, as if that had been published before.
fn begin_late(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let fresh = frames(history, |frame| frame["type"] == "subscribed" && frame["payload"]["resumed"] == false);
    let messages = messages(history);
    let mut candidates = Vec::new();
    for subscribed in &fresh {
        let first = messages.iter().find(|message| {
            message.connection == subscribed.connection
                && scope(&message.frame["channel"]) == scope(&subscribed.frame["channel"])
        });
        let Some(first) = first.filter(|first| position(&first.frame) > position(&subscribed.frame)) else { continue };
        let sent_later = history[subscribed.index..]
            .iter()
            .any(|record| matches!(&record.event, Event::Publish { value, retry: Retry::No, .. } if first.frame["payload"]["v"] == **value));
        let moved =
            frames(history, |frame| frame["type"] == "position" || frame["type"] == "gap").iter().any(|frame| {
                frame.connection == subscribed.connection && frame.index < first.index && frame.index > subscribed.index
            });
        // A message that is known from nowhere else is not expected, as far as the checker knows.
        let is_known = replies(history).iter().any(|(_, value, _)| first.frame["payload"]["v"] == **value);
        if sent_later && is_known && !moved && subscribed.frame["channel"].as_str().unwrap().ends_with('*') {
            candidates.push((subscribed, first));
        }
    }
    let (subscribed, first) = pick(&candidates, random)?;
    let mut frame = subscribed.frame.clone();
    frame["position"] = first.frame["position"].clone();
    Some(without(&with(history, subscribed.index, text(subscribed.connection, &frame)), first.index))
}

fn repeat_one(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = messages(history);
    let one = pick(&messages, random)?;
    Some(insert(history, one.index + 1, text(one.connection, &one.frame)))
}

/// The second attempt with the same id is acknowledged at another position.
fn store_twice(history: &[Record], loses: bool, random: &mut Random) -> Option<Vec<Record>> {
    if loses {
        return None; // A Redis that loses data forgets ids too.
    }
    let replies = replies(history);
    let (index, value, at) = pick(&replies, random)?;
    let position: Position = at.parse().unwrap();
    let beyond = Position { offset: position.offset + 10_000, ..position };
    let channel = channel_of(history, value);
    let again = Event::Publish { value: value.clone(), channel, via: None, retry: Retry::SameId };
    let answer = Event::Answered { value: value.clone(), answer: PublishAnswer::Reply(beyond.to_string()) };
    Some(insert(&insert(history, index + 1, again), index + 2, answer))
}

fn swap_two(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = messages(history);
    let mut pairs = Vec::new();
    for (number, one) in messages.iter().enumerate() {
        let next = messages[number + 1..].iter().find(|next| {
            next.connection == one.connection && scope(&next.frame["channel"]) == scope(&one.frame["channel"])
        });
        // Before its publish it would be a phantom.
        let is_sent = |next: &&Received| {
            history[..one.index].iter().any(
                |record| matches!(&record.event, Event::Publish { value, .. } if next.frame["payload"]["v"] == **value),
            )
        };
        pairs.extend(next.filter(is_sent).map(|next| (one, next)));
    }
    let (one, next) = pick(&pairs, random)?;
    let swapped = with(history, one.index, text(one.connection, &next.frame));
    Some(with(&swapped, next.index, text(one.connection, &one.frame)))
}

fn drop_the_last(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let quiesced = history.iter().position(|record| record.event == Event::Quiesced).unwrap();
    let mut last: Vec<Received> = messages(history).into_iter().filter(|message| message.index > quiesced).collect();
    // Only messages that are the last of their scope on the connection.
    let tails: Vec<(u64, String, usize)> =
        last.iter().map(|m| (m.connection, scope(&m.frame["channel"]).to_owned(), m.index)).collect();
    last.retain(|m| {
        !tails.iter().any(|(c, s, i)| *c == m.connection && s == scope(&m.frame["channel"]) && *i > m.index)
    });
    Some(without(history, pick(&last, random)?.index))
}

fn stay_away(history: &[Record], _: bool, _: &mut Random) -> Option<Vec<Record>> {
    let end = history.len() - 1;
    let open = |record: &Record| match &record.event {
        Event::Received { connection, .. } => Some(*connection),
        _ => None,
    };
    let connection = history.iter().rev().find_map(open)?;
    Some(insert(history, end, Event::Closed { connection, why: "spoilt".into(), intended: false, code: None }))
}

fn invent(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = messages(history);
    let one = pick(&messages, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["v"] = json!("invented");
    Some(with(history, one.index, text(one.connection, &frame)))
}

fn refuse(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let received = messages(history);
    let replies: Vec<_> = replies(history)
        .into_iter()
        .filter(|(index, value, _)| received.iter().any(|m| m.index > *index && m.frame["payload"]["v"] == **value))
        .collect();
    let (index, value, _) = pick(&replies, random)?;
    let answer = PublishAnswer::Error("READONLY You can't write against a read only replica.".into());
    Some(with(history, *index, Event::Answered { value: value.clone(), answer }))
}

fn misdirect(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let narrow =
        frames(history, |frame| frame["type"] == "subscribed" && !frame["channel"].as_str().unwrap().ends_with('*'));
    let one = pick(&narrow, random)?;
    let channel = format!("{}:b", scope(&one.frame["channel"]));
    let sent = |record: &Record| match &record.event {
        Event::Publish { value, channel: to, .. } if *to == channel => Some(value.clone()),
        _ => None,
    };
    let value = history[..one.index].iter().find_map(sent)?;
    let frame =
        json!({"type": "note", "channel": channel, "payload": {"v": value}, "timestamp": "x", "position": "99-1"});
    Some(insert(history, one.index + 1, text(one.connection, &frame)))
}

fn resume_elsewhere(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let mut resumed = frames(history, |frame| frame["payload"]["resumed"] == true);
    // A restored session says itself where it continues.
    resumed.retain(|one| !is_restored(history, one.connection));
    let one = pick(&resumed, random)?;
    let mut frame = one.frame.clone();
    let at = position(&frame);
    frame["position"] = json!(Position { offset: at.offset + 1, ..at }.to_string());
    Some(with(history, one.index, text(one.connection, &frame)))
}

fn is_restored(history: &[Record], connection: u64) -> bool {
    frames(history, |frame| frame["type"] == "restored").iter().any(|restored| restored.connection == connection)
}

/// The client's next frame on that channel is not a gap.
fn resume_not(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let end = history.iter().rposition(|record| record.event == Event::End)?;
    let resumed = frames(history, |frame| frame["payload"]["resumed"] == true);
    let breaks = |one: &&Received| {
        let next = history[one.index + 1..end].iter().find_map(|record| match &record.event {
            Event::Closed { connection, .. } if *connection == one.connection => Some(false),
            Event::Received { connection, text } if *connection == one.connection => {
                let frame = event_stream::frame(text)?;
                let is_here = frame["channel"].is_string() && scope(&frame["channel"]) == scope(&one.frame["channel"]);
                (is_here && frame["type"] != "position").then(|| frame["type"] != "gap")
            }
            _ => None,
        });
        next == Some(true)
    };
    let resumed: Vec<&Received> = resumed.iter().filter(breaks).collect();
    let one = pick(&resumed, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["resumed"] = json!(false);
    Some(with(history, one.index, text(one.connection, &frame)))
}

fn resume_nothing(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let fresh = frames(history, |frame| frame["payload"]["resumed"] == false);
    let asked_nothing = |one: &&Received| {
        history[..one.index].iter().any(|record| match &record.event {
            Event::Sent { connection, text } if *connection == one.connection => {
                let hello: Value = serde_json::from_str(text).unwrap();
                let mut places = hello["payload"]["channels"].as_array().into_iter().flatten();
                places.any(|place| place["channel"] == one.frame["channel"] && place["position"].is_null())
            }
            _ => false,
        })
    };
    let fresh: Vec<&Received> = fresh.iter().filter(asked_nothing).collect();
    let one = pick(&fresh, random)?;
    let mut frame = one.frame.clone();
    frame["payload"]["resumed"] = json!(true);
    Some(with(history, one.index, text(one.connection, &frame)))
}

fn gap_for_nothing(history: &[Record], loses: bool, random: &mut Random) -> Option<Vec<Record>> {
    let began = history.iter().position(|record| record.event == Event::FaultBegan)?;
    // If Redis loses data, only a gap before the fault is certainly false.
    let messages: Vec<Received> = messages(history).into_iter().filter(|m| !loses || m.index < began).collect();
    let one = pick(&messages, random)?;
    let after = position(&one.frame);
    let payload =
        json!({"after": after.to_string(), "upto": after.to_string(), "reason": "failover", "certain": false});
    let channel = format!("{}:*", scope(&one.frame["channel"]));
    Some(insert(
        history,
        one.index + 1,
        text(one.connection, &json!({"type": "gap", "channel": channel, "payload": payload})),
    ))
}

fn diverge(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let received = messages(history);
    let replies: Vec<_> = replies(history)
        .into_iter()
        .filter(|(_, value, _)| received.iter().any(|m| m.frame["payload"]["v"] == **value))
        .collect();
    let (index, value, at) = pick(&replies, random)?;
    let position: Position = at.parse().unwrap();
    let beyond = Position { offset: position.offset + 10_000, ..position };
    Some(with(
        history,
        *index,
        Event::Answered { value: value.clone(), answer: PublishAnswer::Reply(beyond.to_string()) },
    ))
}

fn babble(history: &[Record], _: bool, random: &mut Random) -> Option<Vec<Record>> {
    let messages = messages(history);
    let one = pick(&messages, random)?;
    Some(insert(history, one.index, Event::Received { connection: one.connection, text: "{\"type\":7}".into() }))
}
