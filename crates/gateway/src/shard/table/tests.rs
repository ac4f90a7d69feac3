//! The table under literal clocks: what clients say and hear, without a socket.

use std::time::Duration;

use bytes::Bytes;
use message_router::{Policies, Start};
use serde_json::Value;
use wire::{Families, GapReason, InstanceId, Message, SessionId, TenantId, Timestamp, UserId};

use super::*;
use crate::auth::grants::{GrantList, Grants};
use crate::auth::token::{Identity, Policy, Verifier};
use crate::host::rate::RateLimit;
use crate::host::reloadable::Reloadable;
use crate::session::bind;
use crate::session::rules::Limits;
use crate::shard::departures::Departures;
use crate::shard::wheel::Wheel;

mod close_session;
mod deadlines;
mod latest;
mod model;
mod overlap;
mod presence;
mod receipts;
mod restore;
mod slow_clients;
mod tables;
mod tokens;
mod unauthenticated;

const GENERATION: u64 = 7;

struct Table {
    shard: Shard,
    now: Now,
}

fn at(offset: u64) -> Position {
    Position::new(GENERATION, offset)
}

impl Table {
    fn new() -> Self {
        Self::with(Policies::default())
    }

    fn with(policies: Policies) -> Self {
        let families = Families::default();
        let rules = Rules {
            instance: InstanceId::parse("gw-1").unwrap(),
            verifier: Reloadable::new(Verifier::new(Vec::new(), Policy::default(), families)),
            policies,
            limits: Limits {
                message_bytes_max: 1 << 20,
                hello_bytes_max: 1 << 14,
                message_timeout_ms: 30_000,
                inbound_bytes_max: 1 << 20,
                connections_max: 1_000,
                unauthenticated_max: 3,
                messages_per_second: 100,
                rate: RateLimit::new(100, 200),
                outbox_bytes_max: 4_096,
                backlog_bytes_max: 1 << 20,
                write_timeout_ms: 30_000,
                ping_interval_ms: 30_000,
                pong_timeout_ms: 10_000,
                hello_timeout_ms: 10_000,
                expiry_grace_ms: 0,
            },
        };
        let shard = Shard::new(ShardIndex(0), Arc::new(rules), Arc::default());
        Self { shard, now: Now { mono_ms: 1_000, unix_ms: 1_000_000_000 } }
    }

    fn connect(&mut self, user: &str) -> Slot {
        let grants = GrantList::parse(&Families::default(), &["collection:*", "system:*"]).unwrap();
        let identity = Identity {
            tenant: TenantId::default(),
            user: UserId::parse(user).unwrap(),
            grants: Grants::new(grants.clone(), grants),
            expires_at_unix_s: 1_000_600,
            info: None,
            mark: Default::default(),
        };
        let session = Session::new(SessionId::from_random(1), None);
        let slot = self.shard.open(session, Opening::Authenticated(identity), self.now);
        self.shard.first_wake(slot, self.now);
        assert_eq!(self.received(slot), ["welcome"]);
        slot
    }

    fn client_sends(&mut self, slot: Slot, frame: &str) {
        self.shard.frame(slot, ClientFrame::parse(frame), self.now);
    }

    /// Takes what a client would read: types for control frames, `channel@offset` for messages.
    fn received(&mut self, slot: Slot) -> Vec<String> {
        let mut received = Vec::new();
        let Some(connection) = self.shard.connection(slot) else { return received };
        while !connection.outbox.is_empty() {
            let bytes = connection.outbox.take_entry();
            received.extend(frames(&bytes));
        }
        received
    }

    /// What a client would read, which must be gaps: channel, reason, from where to where.
    fn gaps(&mut self, slot: Slot) -> Vec<String> {
        let outbox = &mut self.shard.connection(slot).expect("it is there").outbox;
        let mut gaps = Vec::new();
        while !outbox.is_empty() {
            let bytes = outbox.take_entry(); // one frame at a time
            let header = if bytes[1] == 126 { 4 } else { 2 };
            let frame: Value = serde_json::from_slice(&bytes[header..]).unwrap();
            let Value::Object(payload) = &frame["payload"] else { panic!("{frame}") };
            let [after, upto, reason] =
                ["after", "upto", "reason"].map(|name| payload[name].as_str().unwrap_or("null"));
            gaps.push(format!("{} {reason} {after}..{upto}", frame["channel"].as_str().unwrap()));
        }
        gaps
    }

    fn requests(&mut self) -> Vec<PumpRequest> {
        let mut requests = Vec::new();
        self.shard.take_requests(&mut requests);
        requests
    }

    /// Asserts that the table asked to join once, and says for whom.
    fn joiner(&mut self) -> (Joiner, Option<Position>) {
        let (joiner, after) = self.joiner_of_several();
        assert_eq!(after.lowest(), after.highest());
        (joiner, after.lowest())
    }

    fn joiner_of_several(&mut self) -> (Joiner, message_router::Positions) {
        let requests = self.requests();
        match &requests[..] {
            [PumpRequest::Join { joiner, after, .. }] => (*joiner, after.clone()),
            other => panic!("one join, not {other:?}"),
        }
    }

    fn live(&mut self, slot: Slot, channel: &str, top: u64) {
        self.client_sends(slot, &format!(r#"{{"type":"subscribe","channel":"{channel}"}}"#));
        let (joiner, _) = self.joiner();
        self.shard.joined(joiner, page(Start::Fresh, vec![], Some(top), false));
        assert_eq!(self.received(slot), [format!("subscribed {channel}")]);
    }

    fn publish(&mut self, scope: &str, topic: &str, offset: u64) -> u64 {
        let scope = Families::default().parse_scope(&format!("default/{scope}")).unwrap();
        self.shard.deliver(&scope, &[message(&scope, topic, offset)])
    }
}

fn message(scope: &Scope, topic: &str, offset: u64) -> Outgoing {
    let message = Message::parse(br#"{"type":"m"}"#).unwrap();
    Outgoing::new(&message, scope, Bytes::copy_from_slice(topic.as_bytes()), Timestamp(0), Some(at(offset)))
}

fn page(start: Start, offsets: Vec<(&str, u64)>, upto: Option<u64>, more: bool) -> CatchUpPage {
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let messages = offsets.into_iter().map(|(topic, offset)| message(&scope, topic, offset)).collect();
    CatchUpPage { start, lost: Vec::new(), messages, upto: upto.map(at), more }
}

/// Reads back finished frames of less than 64 KiB.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match *len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(len), rest),
        };
        let (payload, rest) = rest.split_at(len);
        bytes = rest;
        all.push(match first & 0x0F {
            0x8 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
            0x9 => "PING".into(),
            0xA => "PONG".into(),
            _ => describe(&serde_json::from_slice(payload).unwrap()),
        });
    }
    all
}

fn describe(frame: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&frame["type"]);
    match kind.as_str() {
        "m" => format!("{}@{}", text(&frame["channel"]), text(&frame["position"]).split_once('-').unwrap().1),
        "subscribed" | "unsubscribed" | "gap" | "receipt" => format!("{kind} {}", text(&frame["channel"])),
        "error" => format!("error {}", text(&frame["payload"]["code"])),
        _ => kind,
    }
}

#[test]
fn a_message_reaches_those_who_hold_its_topic_once() {
    let mut table = Table::new();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    table.live(alice, "collection:42:ops", 0);
    table.live(alice, "collection:42:*", 0);
    table.live(bob, "collection:42:comments", 0);
    assert_eq!(table.publish("collection:42", "ops", 1), 1);
    assert_eq!(table.publish("collection:42", "comments", 2), 2);
    assert_eq!(table.publish("collection:7", "ops", 1), 0);
    assert_eq!(table.received(alice), ["collection:42:ops@1", "collection:42:comments@2"]);
    assert_eq!(table.received(bob), ["collection:42:comments@2"]);
}

#[test]
fn a_resume_replays_then_gives_what_was_held_and_nothing_twice() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-3"}"#);
    let (joiner, after) = table.joiner();
    assert_eq!(after, Some(at(3)));
    // Live messages overtake the history that is being read: two of them are in it, one is not.
    for offset in [5, 6, 7] {
        table.publish("collection:42", "ops", offset);
    }
    assert_eq!(table.received(alice), Vec::<String>::new(), "nothing before subscribed");
    table.shard.joined(joiner, page(Start::Resumed, vec![("ops", 4), ("ops", 5), ("ops", 6)], Some(6), false));
    table.publish("collection:42", "ops", 8);
    let expected = [4, 5, 6, 7, 8].map(|offset| format!("collection:42:ops@{offset}"));
    assert_eq!(table.received(alice)[0], "subscribed collection:42:*");
    table.publish("collection:42", "ops", 9);
    assert_eq!(table.received(alice), ["collection:42:ops@9"]);
    let mut again = Table::new();
    let alice = again.connect("alice");
    again.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-3"}"#);
    let (joiner, _) = again.joiner();
    for offset in [5, 6, 7] {
        again.publish("collection:42", "ops", offset);
    }
    again.shard.joined(joiner, page(Start::Resumed, vec![("ops", 4), ("ops", 5), ("ops", 6)], Some(6), false));
    again.publish("collection:42", "ops", 8);
    assert_eq!(again.received(alice)[1..], expected);
}

#[test]
fn patterns_of_one_hello_in_one_scope_replay_in_order_each_from_its_own_position() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let hello = r#"{"type":"hello","payload":{"channels":[
        {"channel":"collection:42:ops","position":"7-2"},{"channel":"collection:42:comments","position":"7-5"}]}}"#;
    table.client_sends(alice, hello);
    let (joiner, after) = table.joiner_of_several();
    assert_eq!(after, [2, 5].map(at).into_iter().collect(), "one join for the scope");
    table.publish("collection:42", "other", 7);
    let entries = vec![("ops", 3), ("comments", 4), ("ops", 5), ("comments", 6), ("other", 7)];
    table.shard.joined(joiner, page(Start::Resumed, entries, Some(7), false));
    let expected = [
        "subscribed collection:42:ops",
        "subscribed collection:42:comments",
        "collection:42:ops@3",
        "collection:42:ops@5",
        "collection:42:comments@6",
    ];
    assert_eq!(table.received(alice), expected);
}

/// Of several positions each is told what became of it, and goes on where the lowest that stands does.
#[test]
fn a_lost_position_is_a_gap_for_its_own_pattern_alone() {
    let hello = r#"{"type":"hello","payload":{"channels":[
        {"channel":"collection:42:ops","position":"7-2"},{"channel":"collection:42:comments","position":"7-5"},
        {"channel":"collection:42:*","position":"7-5"},{"channel":"collection:42"}]}}"#;
    for (lost, position) in [(2, 5), (5, 2)] {
        let mut table = Table::new();
        let alice = table.connect("alice");
        table.client_sends(alice, hello);
        let (joiner, after) = table.joiner_of_several();
        assert_eq!(after, [2, 5].map(at).into_iter().collect());
        let gap = Gap { after: Some(at(lost)), upto: at(position), reason: GapReason::Failover, certain: false };
        let entries = (position + 1..=7).map(|offset| ("ops", offset)).collect();
        let joined = CatchUpPage { lost: vec![gap], ..page(Start::Resumed, entries, Some(7), false) };
        table.shard.joined(joiner, joined);
        let frames = table.received(alice);
        let gaps: Vec<_> = frames.iter().filter(|frame| frame.starts_with("gap")).map(String::as_str).collect();
        match lost {
            2 => assert_eq!(gaps, ["gap collection:42:ops"]),
            _ => assert_eq!(gaps, ["gap collection:42:comments", "gap collection:42:*"]),
        }
        let expected: Vec<_> = (position + 1..=7).map(|offset| format!("collection:42:ops@{offset}")).collect();
        assert_eq!(frames[4 + gaps.len()..], expected, "all of them go on behind {position}");
    }
}

/// What was asked for before a subscription ended is still answered, and comes before newer messages.
#[test]
fn a_subscription_waits_for_older_messages_though_who_asked_for_them_has_left() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let hello = r#"{"type":"hello","payload":{"channels":[
        {"channel":"collection:42:*"},{"channel":"collection:42:comments","position":"7-2"}]}}"#;
    table.client_sends(alice, hello);
    let (first, after) = table.joiner();
    assert_eq!(after, Some(at(2)));
    table.shard.degraded(true);
    table.shard.joined(first, page(Start::Degraded, vec![], None, false));
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:ops"}"#);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:comments"}"#);
    table.received(alice);
    table.shard.resume_replays(alice);
    assert_eq!(table.requests().len(), 0, "it waits");
    table.shard.joined(first, page(Start::Resumed, vec![("ops", 3)], Some(3), true));
    table.received(alice);
    table.shard.joined(first, page(Start::Resumed, vec![("ops", 4)], Some(4), false));
    assert_eq!(table.received(alice), ["collection:42:ops@4"]);
    table.requests();
    table.shard.resume_replays(alice);
    assert_eq!(table.joiner().1, None, "now it begins");
}

/// What a subscription was told to be missing it has not delivered, and another one may have it.
#[test]
fn what_lies_in_the_gap_of_a_subscription_comes_through_a_later_one() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-1"}"#);
    let (joiner, after) = table.joiner();
    let gap = Gap { after, upto: at(9), reason: GapReason::Expired, certain: true };
    table.shard.joined(joiner, page(Start::Gap(gap), vec![], Some(9), false));
    table.publish("collection:42", "ops", 10);
    assert_eq!(table.received(alice), ["subscribed collection:42:*", "gap collection:42:*", "collection:42:ops@10"]);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:ops","position":"7-7"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, vec![("ops", 8), ("ops", 9), ("ops", 10)], Some(10), false));
    let expected = ["subscribed collection:42:ops", "collection:42:ops@8", "collection:42:ops@9"];
    assert_eq!(table.received(alice), expected);
}

#[test]
fn replay_leaves_out_what_a_live_subscription_has_delivered() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:ops", 2);
    table.publish("collection:42", "ops", 3);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-1"}"#);
    let (joiner, _) = table.joiner();
    let entries = vec![("ops", 2), ("ops", 3), ("comments", 4)];
    table.shard.joined(joiner, page(Start::Resumed, entries, Some(4), false));
    let expected =
        ["collection:42:ops@3", "subscribed collection:42:*", "collection:42:ops@2", "collection:42:comments@4"];
    assert_eq!(table.received(alice), expected);
}

#[test]
fn pages_are_asked_for_until_there_are_no_more() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Resumed, vec![("a", 1), ("a", 2)], Some(2), true));
    let (again, after) = table.joiner();
    assert_eq!((again, after), (joiner, Some(at(2))));
    table.publish("collection:42", "a", 4);
    table.shard.joined(joiner, page(Start::Resumed, vec![("a", 3)], Some(3), false));
    let mut expected = vec!["subscribed collection:42:*".to_owned()];
    expected.extend((1..=4).map(|offset| format!("collection:42:a@{offset}")));
    assert_eq!(table.received(alice), expected);
}

#[test]
fn a_replay_waits_for_a_client_that_has_not_read_the_last_page() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    let entries: Vec<_> = (1..=12).map(|offset| ("a", offset)).collect();
    table.shard.joined(joiner, page(Start::Resumed, entries, Some(12), true));
    assert!(table.requests().is_empty(), "more than a quarter of the outbox waits");
    assert_eq!(table.received(alice).len(), 13);
    table.shard.resume_replays(alice);
    assert_eq!(table.joiner(), (joiner, Some(at(12))));
}

#[test]
fn a_joiner_that_held_too_much_reads_it_from_history_instead() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-0"}"#);
    let (joiner, _) = table.joiner();
    for offset in 2..3_000 {
        table.publish("collection:42", "a", offset);
    }
    table.shard.joined(joiner, page(Start::Resumed, vec![("a", 1)], Some(1), false));
    assert_eq!(table.joiner(), (joiner, Some(at(1))), "dropped messages are requested");
    assert_eq!(table.received(alice), ["subscribed collection:42:*", "collection:42:a@1"]);
}

#[test]
fn a_position_that_cannot_be_honoured_is_a_gap_and_the_rest_goes_on() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-3"}"#);
    let (joiner, _) = table.joiner();
    let gap = Gap { after: Some(at(3)), upto: at(9), reason: GapReason::Expired, certain: true };
    table.shard.joined(joiner, page(Start::Gap(gap), vec![], Some(9), false));
    table.publish("collection:42", "ops", 10);
    assert_eq!(table.received(alice), ["subscribed collection:42:*", "gap collection:42:*", "collection:42:ops@10"]);
}

#[test]
fn one_that_began_afresh_is_told_of_a_gap_behind_its_first_page() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (joiner, _) = table.joiner();
    for offset in 2..3_000 {
        table.publish("collection:42", "a", offset);
    }
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(1), false));
    assert_eq!(table.joiner(), (joiner, Some(at(1))), "dropped messages are requested");
    let gap = Gap { after: Some(at(1)), upto: at(9), reason: GapReason::Failover, certain: false };
    table.shard.joined(joiner, page(Start::Gap(gap), vec![], Some(9), false));
    assert_eq!(table.received(alice), ["subscribed collection:42:*", "gap collection:42:*"]);
}

#[test]
fn while_the_broker_is_away_a_subscription_stands_as_degraded_and_is_confirmed_later() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Degraded, vec![], None, false));
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(4), false));
    table.publish("collection:42", "ops", 5);
    let expected = ["subscribed collection:42:*", "subscribed collection:42:*", "collection:42:ops@5"];
    assert_eq!(table.received(alice), expected);
}

#[test]
fn a_message_of_this_instance_alone_comes_at_once_and_a_gap_where_each_stands_tells_of_it_later() {
    let mut table = Table::new();
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let local = |topic: &str| {
        let message = Message::parse(br#"{"type":"local"}"#).unwrap();
        Outgoing::new(&message, &scope, Bytes::copy_from_slice(topic.as_bytes()), Timestamp(0), None)
    };
    let (live, late, new) = (table.connect("live"), table.connect("late"), table.connect("new"));
    table.live(live, "collection:42:ops", 3);
    table.live(live, "collection:42:*", 3);
    table.client_sends(late, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-2"}"#);
    let (late_joiner, _) = table.joiner();
    table.shard.joined(late_joiner, page(Start::Degraded, vec![], None, false));
    assert_eq!(table.received(late), ["subscribed collection:42:*"]);
    table.client_sends(new, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (new_joiner, _) = table.joiner();

    assert_eq!(table.shard.deliver(&scope, &[local("ops"), local("other")]), 4);
    assert_eq!(table.received(live), ["local", "local"]);
    assert_eq!(table.received(late), ["local", "local"], "a client that knows its subscription is active");
    assert_eq!(table.received(new), Vec::<String>::new(), "nothing before subscribed");

    table.shard.isolated(&scope);
    assert_eq!(table.gaps(live), ["collection:42:ops isolated 7-3..7-3", "collection:42:* isolated 7-3..7-3"]);
    assert_eq!(table.gaps(late), ["collection:42:* isolated 7-2..7-2"]);
    assert_eq!(table.gaps(new), Vec::<String>::new(), "it came after them");
    table.shard.joined(late_joiner, page(Start::Resumed, vec![("ops", 3)], Some(3), false));
    table.shard.joined(new_joiner, page(Start::Fresh, vec![], Some(3), false));
    assert_eq!(table.received(late), ["subscribed collection:42:*", "collection:42:ops@3"]);
    assert_eq!(table.received(new), ["subscribed collection:42:*"], "nothing was held for it");
    assert_eq!(table.publish("collection:42", "ops", 4), 3);
}

#[test]
fn who_gave_no_position_and_has_none_yet_is_told_without_one() {
    let mut table = Table::new();
    let scope = Families::default().parse_scope("default/collection:42").unwrap();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Degraded, vec![], None, false));
    table.received(alice);
    table.shard.isolated(&scope);
    assert_eq!(table.gaps(alice), ["collection:42:* isolated null..null"]);
}

#[test]
fn nothing_stays_behind_a_connection_that_ends_while_it_catches_up() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (joiner, _) = table.joiner();
    assert!(table.shard.remove(alice).is_some());
    assert!(matches!(&table.requests()[..], [PumpRequest::Leave { .. }]));
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(4), false));
    assert_eq!(table.shard.subscriptions.tables().map(|(len, _)| len), [0, 0]);
    assert_eq!(table.shard.counters.subscriptions.get(), 0);
}

#[test]
fn the_last_member_to_leave_lets_the_scope_go() {
    let mut table = Table::new();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    table.live(alice, "system:*", 0);
    table.live(bob, "system:news", 0);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"system:*"}"#);
    assert_eq!(table.received(alice), ["unsubscribed system:*"]);
    assert!(table.requests().is_empty());
    table.client_sends(bob, r#"{"type":"unsubscribe","channel":"system:news"}"#);
    assert!(matches!(&table.requests()[..], [PumpRequest::Leave { .. }]));
    assert_eq!(table.received(bob), ["unsubscribed system:news"]);
    table.client_sends(bob, r#"{"type":"unsubscribe","channel":"system:news"}"#);
    assert_eq!(table.received(bob), ["error not_subscribed"]);
}

#[test]
fn a_burst_is_not_slowness_until_the_socket_takes_no_more() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:*", 0);
    for offset in 1..=100 {
        table.publish("collection:42", "ops", offset);
    }
    assert_eq!(table.received(alice).len(), 100, "far more than the bound, and all of it is there to be written");
}

#[test]
fn what_a_live_subscription_delivers_while_another_catches_up_comes_once() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:ops", 2);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    let (joiner, _) = table.joiner();
    table.publish("collection:42", "ops", 3);
    table.publish("collection:42", "comments", 4);
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(2), false));
    let expected = ["collection:42:ops@3", "subscribed collection:42:*", "collection:42:comments@4"];
    assert_eq!(table.received(alice), expected);
}

#[test]
fn who_comes_while_the_broker_is_away_or_the_instance_leaves_is_told() {
    let mut table = Table::new();
    table.shard.degraded(true);
    let grants = GrantList::parse(&Families::default(), &["system:*"]).unwrap();
    let identity = || Identity {
        tenant: TenantId::default(),
        user: UserId::parse("late").unwrap(),
        grants: Grants::new(grants.clone(), grants.clone()),
        expires_at_unix_s: 1_000_600,
        info: None,
        mark: Default::default(),
    };
    let session = |n| Session::new(SessionId::from_random(n), None);
    let late = table.shard.open(session(1), Opening::Authenticated(identity()), table.now);
    assert_eq!(table.received(late), ["welcome", "degraded"]);
    table.client_sends(
        late,
        &format!(r#"{{"type":"hello","payload":{{"session_id":"{}"}}}}"#, SessionId::from_random(7)),
    );
    assert_eq!(table.received(late), [""; 0], "it has been told");
    table.shard.drain(Departures::spread(0, Duration::ZERO));
    assert_eq!(table.received(late), [""; 0], "its turn has not come");
    table.shard.drain(Departures::spread(1, Duration::ZERO));
    assert_eq!(table.received(late), ["reconnect", "bye", "close 1012"]);
    let later = table.shard.open(session(2), Opening::Authenticated(identity()), table.now);
    assert_eq!(table.received(later), ["bye", "close 1012"]);
}

#[test]
fn to_emptier_instances_go_those_first_who_came_first_and_nobody_who_has_just_come() {
    let mut table = Table::new();
    let [one, two, slow] = ["one", "two", "slow"].map(|user| table.connect(user));
    table.shard.block(slow, table.now);
    let stranger = table.shard.open(Session::new(SessionId::from_random(9), None), Opening::AwaitHello, table.now);
    table.now.mono_ms += 61_000;
    let late = table.connect("late");
    let spare = Duration::from_secs(60);
    let mut departures = Departures { count: 1, after: Duration::ZERO, step: Duration::from_millis(50) };
    table.shard.rebalance(departures, spare, table.now);
    assert_eq!(table.received(one), ["reconnect", "bye", "close 1012"]);
    assert_eq!(table.received(two), [""; 0]);
    departures.count = 10;
    table.shard.rebalance(departures, spare, table.now);
    assert_eq!(table.received(two), ["reconnect", "bye", "close 1012"]);
    for (slot, what) in [(slow, "has something to read"), (stranger, "has no token yet"), (late, "has just come")] {
        assert_eq!(table.received(slot), [""; 0], "{what}");
    }
    assert_eq!(table.shard.counters.rebalanced.get(), 2);
}

#[test]
fn a_fenced_instance_writes_nothing_that_waited_and_sends_everybody_elsewhere() {
    let mut table = Table::new();
    let (quick, slow) = (table.connect("quick"), table.connect("slow"));
    table.live(quick, "collection:42:*", 0);
    table.live(slow, "collection:42:*", 0);
    table.shard.block(slow, table.now);
    table.publish("collection:42", "ops", 1);
    table.shard.fence(Duration::from_secs(1));
    table.publish("collection:42", "ops", 2);
    for slot in [quick, slow] {
        assert_eq!(table.received(slot), ["reconnect", "bye", "close 1012"]);
    }
    // The new incarnation takes clients again.
    table.connect("later");
}

#[test]
fn a_flood_is_refused_and_then_ended_however_it_is_spelt() {
    for frame in [r#"{"type":"ping"}"#, "nonsense"] {
        let mut table = Table::new();
        let alice = table.connect("alice");
        let mut answers = Vec::new();
        for ms in 0..2_000 {
            table.now.mono_ms = 1_000 + ms;
            table.client_sends(alice, frame);
            answers.extend(table.received(alice));
        }
        assert!(answers.iter().filter(|answer| *answer == "error rate_limited").count() >= 900, "{frame}");
        assert_eq!(answers.last().map(String::as_str), Some("close 4004"), "{frame}");
    }
}

#[test]
fn a_token_that_ends_soon_is_looked_at_in_time() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.now.unix_ms = 1_000_598_000;
    assert_eq!(table.shard.wake_sooner(alice, table.now), Some(table.now.mono_ms + 2_000));
    assert_eq!(table.shard.wake_sooner(alice, table.now), None, "once");
}

#[test]
fn tables_shrink_when_thousands_have_gone_and_who_stays_is_where_it_was() {
    let mut table = Table::new();
    let slots: Vec<Slot> = (0..8_000).map(|n| table.connect(&format!("user-{n}"))).collect();
    table.live(slots[500], "collection:42:ops", 0);
    let stays = slots[500];
    slots.into_iter().filter(|slot| *slot != stays).for_each(|slot| drop(table.shard.remove(slot)));
    let full = table.shard.connections.capacity();
    table.shard.shrink();
    let left = table.shard.connections.capacity();
    assert!(full >= 8_000 && left <= stays as usize + 1, "{full} {left}");
    assert_eq!(table.publish("collection:42", "ops", 1), 1);
    assert_eq!(table.received(stays), ["collection:42:ops@1"]);
    let next = table.connect("another");
    assert_ne!(next, stays);
}

#[test]
fn a_client_without_a_token_and_one_whose_token_ran_out_are_closed() {
    let mut table = Table::new();
    let nobody = table.shard.open(Session::new(SessionId::from_random(2), None), Opening::AwaitHello, table.now);
    table.client_sends(nobody, r#"{"type":"subscribe","channel":"system:*"}"#);
    assert_eq!(table.received(nobody), ["error unauthenticated"], "and it may still say hello");
    let due_ms = table.shard.first_wake(nobody, table.now);
    assert_eq!(due_ms, 11_000);
    table.now.mono_ms = due_ms;
    table.shard.wake(nobody, table.now);
    assert_eq!(table.received(nobody), ["error unauthenticated", "bye", "close 4003"]);

    let alice = table.connect("alice");
    table.now.unix_ms = 1_000_600_000;
    table.now.mono_ms += 600_000;
    table.shard.wake(alice, table.now);
    assert_eq!(table.received(alice), ["error token_expired", "bye", "close 4002"]);
}

#[test]
fn who_names_a_session_with_no_good_token_is_not_taken_for_it() {
    let mut table = Table::new();
    let user = UserId::parse("mallory").unwrap();
    let (own, named) = (SessionId::from_random(1), SessionId::from_random(9));
    let [own, named] = [own, named].map(|drawn| bind(drawn, &TenantId::default(), &user));
    let nobody = table.shard.open(Session::new(SessionId::from_random(2), None), Opening::AwaitHello, table.now);
    table.client_sends(nobody, &format!(r#"{{"type":"hello","payload":{{"session_id":"{named}"}}}}"#));
    assert_eq!(table.received(nobody), ["error unauthenticated"]);
    let mallory = table.connect("mallory");
    table
        .client_sends(mallory, &format!(r#"{{"type":"hello","payload":{{"token":"forged","session_id":"{named}"}}}}"#));
    assert_eq!(table.received(mallory), ["error unauthenticated"]);

    table.shard.notice(named, Notice::new("maintenance", "null").unwrap());
    assert_eq!([nobody, mallory].map(|slot| table.received(slot)), [vec![], Vec::<String>::new()]);
    assert_eq!(table.shard.holder(mallory).map(|(session, _)| session.id()), Some(own));
}

#[test]
fn a_quiet_topics_position_moves_on_with_the_ping() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:quiet", 0);
    table.publish("collection:42", "busy", 1);
    table.now.mono_ms += 60_000;
    table.shard.wake(alice, table.now);
    assert_eq!(table.received(alice), ["PING", "position"]);
    table.shard.peer_alive(alice);
    table.now.mono_ms += 60_000;
    table.shard.wake(alice, table.now);
    assert_eq!(table.received(alice), ["PING"], "nothing new, nothing said");
}

#[test]
fn bad_frames_are_answered_and_the_connection_goes_on() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let cases = [
        ("nonsense", "malformed"),
        (r#"{"type":"dance"}"#, "unknown_type"),
        (r#"{"type":"subscribe"}"#, "invalid_field"),
        (r#"{"type":"subscribe","chanel":"system:*"}"#, "invalid_field"),
        (r#"{"type":"subscribe","channel":"room:1"}"#, "invalid_channel"),
        (r#"{"type":"subscribe","channel":"collection:*"}"#, "invalid_channel"),
        (r#"{"type":"subscribe","channel":"user:bob:inbox"}"#, "forbidden"),
        (r#"{"type":"subscribe","channel":"system:*","position":"x"}"#, "invalid_position"),
        (r#"{"type":"publish","channel":"user:bob:inbox","payload":1}"#, "forbidden"),
        (r#"{"type":"publish","channel":"system:*","payload":1}"#, "invalid_channel"),
        (r#"{"type":"publish","channel":"system:x","event":"error","payload":1}"#, "invalid_field"),
        (r#"{"type":"unsubscribe","channel":"system:x"}"#, "not_subscribed"),
    ];
    for (frame, code) in cases {
        table.client_sends(alice, frame);
        assert_eq!(table.received(alice), [format!("error {code}")], "{frame}");
    }
    table.client_sends(alice, r#"{"type":"ping"}"#);
    assert_eq!(table.received(alice), ["pong"]);
}
