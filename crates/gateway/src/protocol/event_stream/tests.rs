//! What clients of an event stream receive, and where they come back.

use bytes::Bytes;
use wire::{Families, GapReason, Message, TenantId, Timestamp};

use super::*;
use crate::protocol::cursor::Cursor;
use crate::protocol::encoder::Encoder;
use crate::session::rules::Lane;
use crate::shard::outbox::{Outbox, Wrote};

fn pattern(text: &str) -> Pattern {
    Families::default().parse(&TenantId::default(), text).unwrap()
}

fn at(offset: u64) -> Position {
    Position::new(7, offset)
}

fn message(channel: &str, stored: &[u8], position: Option<Position>) -> Outgoing {
    let channel = Families::default().parse_channel(&TenantId::default(), channel).unwrap();
    let topic = Bytes::copy_from_slice(channel.topic().as_bytes());
    Outgoing::new(&Message::parse(stored).unwrap(), &channel.scope, topic, Timestamp(0), position)
}

fn outbox(channels: &[&str]) -> Outbox {
    let channels = channels.iter().map(|channel| (pattern(channel), None));
    Outbox::new(Encoder::EventStream(Box::new(EventStream::new(SessionId::from_random(1), channels))))
}

/// Takes all, so many bytes at a time.
fn taken(outbox: &mut Outbox, at_once: usize) -> String {
    let (mut all, mut scratch) = (Vec::new(), Vec::with_capacity(1 << 16));
    while !outbox.is_empty() {
        let wrote = outbox.write(&mut scratch, |bytes| {
            let n = bytes.len().min(at_once);
            all.extend_from_slice(&bytes[..n]);
            Ok(n)
        });
        assert!(matches!(wrote, Ok(Wrote::All | Wrote::Part)));
    }
    assert_eq!(outbox.bytes(), 0);
    String::from_utf8(all).unwrap()
}

/// Name, data and id of each event that a browser dispatches, as HTML's parser has it; and the last id.
fn events(stream: &str) -> (Vec<(String, String)>, String) {
    let (mut dispatched, mut last_id) = (Vec::new(), String::new());
    for block in stream.split_inclusive("\n\n") {
        let (mut name, mut data) = ("message", Vec::new());
        assert!(block.ends_with("\n\n"), "{block:?}");
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            match field {
                "event" => name = value,
                "data" => data.push(value),
                "id" => last_id = value.to_owned(),
                "retry" => assert!(value.parse::<u64>().is_ok()),
                _ => panic!("{line:?}"),
            }
        }
        if !data.is_empty() {
            dispatched.push((name.to_owned(), data.join("\n")));
        }
    }
    (dispatched, last_id)
}

fn position_of(id: &str, channel: &str) -> Option<Position> {
    let cursor = Cursor::parse(id).unwrap_or_else(|| panic!("{id:?}"));
    cursor.channels.into_iter().find(|(name, _)| name == channel).expect("the channel is there").1
}

#[test]
fn an_id_tells_how_far_each_channel_has_come_when_its_event_is_received() {
    let mut outbox = outbox(&["collection:1:*", "user:7", "collection:1:ops"]);
    let (news, chat) = (br#"{"type":"n"}"#, br#"{"type":"c","payload":{}}"#);
    // The second overtakes the first: its id must not tell of that one.
    outbox.append(Lane(2), Outbound::Message(message("collection:1:ops", news, Some(at(4)))));
    outbox.append(Lane(1), Outbound::Message(message("user:7", chat, Some(at(9)))));
    let (_, id) = events(&taken_once(&mut outbox));
    assert_eq!(
        ["collection:1:*", "user:7", "collection:1:ops"].map(|c| position_of(&id, c)),
        [Some(at(4)), Some(at(9)), Some(at(4))]
    );
    outbox.append(Lane(2), Outbound::Message(message("collection:1:chat", chat, Some(at(5)))));
    let (_, id) = events(&taken(&mut outbox, 3));
    assert_eq!(["collection:1:*", "collection:1:ops"].map(|c| position_of(&id, c)), [Some(at(5)), Some(at(4))]);
    let subscribed = ServerFrame::Position { channel: "collection:1:ops".into(), position: at(5) };
    outbox.append(Lane(2), reply(&subscribed));
    let (dispatched, id) = events(&taken(&mut outbox, usize::MAX));
    assert_eq!((dispatched, position_of(&id, "collection:1:ops")), (vec![], Some(at(5))), "an id alone");
}

/// The ids of what is overtaken are made when it is written.
fn taken_once(outbox: &mut Outbox) -> String {
    let all = taken(outbox, usize::MAX);
    let first = all.split_inclusive("\n\n").next().unwrap();
    let (_, id) = events(first);
    assert_eq!((position_of(&id, "user:7"), position_of(&id, "collection:1:*")), (Some(at(9)), None));
    all
}

#[test]
fn a_position_that_is_older_moves_nothing_and_leaves_no_id() {
    let mut outbox = outbox(&["user:7"]);
    let gap = |upto| ServerFrame::Gap {
        channel: "user:7".into(),
        after: None,
        upto: Some(upto),
        reason: GapReason::Expired,
        certain: true,
    };
    outbox.append(Lane(1), reply(&gap(at(9))));
    outbox.append(Lane(1), reply(&gap(at(4))));
    let stream = taken(&mut outbox, usize::MAX);
    let (dispatched, id) = events(&stream);
    assert_eq!((dispatched.len(), position_of(&id, "user:7")), (2, Some(at(9))), "{stream}");
    assert_eq!(stream.matches("id: ").count(), 1, "{stream}");
}

#[test]
fn a_client_that_is_cut_before_a_gap_comes_back_from_before_it() {
    let named = [(pattern("user:7"), Some(at(4))), (pattern("system"), None)];
    let mut outbox =
        Outbox::new(Encoder::EventStream(Box::new(EventStream::new(SessionId::from_random(1), named.into_iter()))));
    let subscribed = |channel: &'static str, resumed: bool, position: Position| ServerFrame::Subscribed {
        channel: channel.into(),
        position: Some(position),
        resumed,
        degraded: false,
        correlation_id: None,
    };
    let gap = ServerFrame::Gap {
        channel: "user:7".into(),
        after: Some(at(4)),
        upto: Some(at(9)),
        reason: GapReason::Expired,
        certain: true,
    };
    outbox.append(Lane(1), reply(&subscribed("system", false, at(2))));
    outbox.append(Lane(1), reply(&subscribed("user:7", false, at(9))));
    outbox.append(Lane(1), reply(&gap));
    let stream = taken(&mut outbox, usize::MAX);
    let (before, _) = stream.split_once("event: gap").expect("there is a gap");
    let (before, _) = before.rsplit_once("id: ").expect("the gap has an id");
    let (dispatched, id) = events(before);
    assert_eq!(
        (dispatched.len(), position_of(&id, "user:7"), position_of(&id, "system")),
        (2, Some(at(4)), Some(at(2)))
    );
    assert_eq!(position_of(&events(&stream).1, "user:7"), Some(at(9)));
}

#[test]
fn a_message_without_a_position_has_no_id() {
    let mut outbox = outbox(&["user:7"]);
    outbox.append(Lane(1), Outbound::Message(message("user:7", br#"{"type":"n"}"#, None)));
    let stream = taken(&mut outbox, 1);
    assert!(stream.starts_with("data: {\"type\":\"n\",\"channel\":\"user:7\""), "{stream}");
}

#[test]
fn lines_of_a_payload_are_fields_and_bytes_are_base64() {
    let mut outbox = outbox(&["collection:1:*"]);
    outbox.append(
        Lane(1),
        Outbound::Message(message(
            "collection:1:a",
            b"{\"type\":\"n\",\"payload\":{\r\n\"x\":[1,\r2]\n}}",
            Some(at(1)),
        )),
    );
    let binary = [&[1, 0, 12][..], br#"{"type":"b"}"#, &[0, 255, 10]].concat();
    outbox.append(Lane(1), Outbound::Message(message("collection:1:b", &binary, Some(at(2)))));
    let (dispatched, _) = events(&taken(&mut outbox, 7));
    let json = |at: usize| serde_json::from_str::<serde_json::Value>(&dispatched[at].1).unwrap();
    assert_eq!(json(0)["payload"]["x"], serde_json::json!([1, 2]));
    assert_eq!(json(1)["payload_base64"], "AP8K");
    assert_eq!(json(1)["position"], "7-2");
}

#[test]
fn what_is_written_in_part_is_neither_overtaken_nor_dropped() {
    let mut outbox = outbox(&["collection:1:*", "user:7"]);
    let large = format!(r#"{{"type":"n","payload":"{}"}}"#, "x".repeat(100_000));
    let numbered = |n, stored| Outbound::Message(message("collection:1:a", stored, Some(at(n))));
    outbox.append(Lane(2), numbered(1, br#"{"type":"n"}"#));
    outbox.append(Lane(2), numbered(2, large.as_bytes()));
    let (mut all, mut scratch) = (Vec::new(), Vec::with_capacity(1 << 16));
    let mut is_begun = false;
    for step in 0..30 {
        let _ = outbox.write(&mut scratch, |bytes| {
            let n = bytes.len().min(40 + step * 977);
            all.extend_from_slice(&bytes[..n]);
            Ok(n)
        });
        // Everything else may go, once the id of the large message is written.
        is_begun |= String::from_utf8_lossy(&all).contains(&at(2).to_string());
        outbox.evict(0, |_| is_begun);
        if step % 2 == 0 {
            let position = Some(at(step as u64 + 100));
            outbox.append(Lane(1), Outbound::Message(message("user:7", br#"{"type":"u"}"#, position)));
        }
    }
    assert!(is_begun && all.len() > large.len());
    outbox.append(Lane(2), numbered(3, br#"{"type":"n"}"#));
    all.extend_from_slice(taken(&mut outbox, 333).as_bytes());
    let stream = String::from_utf8(all).unwrap();
    let (dispatched, id) = events(&stream);
    let offsets = |channel: &str| -> Vec<u64> {
        let values = dispatched.iter().map(|(_, data)| serde_json::from_str::<serde_json::Value>(data).unwrap());
        let own = values.filter(|value| value["channel"] == channel);
        own.map(|value| value["position"].as_str().unwrap().parse::<Position>().unwrap().offset).collect()
    };
    assert_eq!(offsets("collection:1:a"), [1, 2, 3]);
    assert!(offsets("user:7").is_sorted() && offsets("user:7").len() > 1);
    assert_eq!(position_of(&id, "collection:1:*"), Some(at(3)));
}

#[test]
fn what_a_retry_can_help_says_when() {
    let text = |frame: &ServerFrame<'_>| String::from_utf8(bytes(&reply(frame)).to_vec()).unwrap();
    assert!(text(&ServerFrame::Reconnect { after_ms: 2_500 }).starts_with("retry: 2500\nevent: reconnect\ndata: {"));
    let bye = |close: Close| text(&ServerFrame::Bye { code: close.code(), reason: close.reason().into() });
    assert!(bye(Close::Restart).starts_with("event: bye\n"));
    assert!(bye(Close::TooManyConnections).starts_with("retry: 30000\nevent: bye\n"));
    assert!(bye(Close::Replaced).starts_with("retry: 3600000\nevent: bye\n"));
}
