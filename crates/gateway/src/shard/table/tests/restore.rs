//! Records of sessions: what a connection leaves, however it ends.

use std::time::Instant;

use connection_registry::{ConnectionRow, Directory, RegistrationNumber, RestoreRequest, RestoreResult, SessionRecord};

use super::*;
use crate::auth::signed::{NOW, claims, hs256, verifier, with};

const OPS: &str = "collection:42:ops";

/// One of alice's sessions.
fn own(number: u128) -> SessionId {
    bind(SessionId::from_random(number), &TenantId::default(), &UserId::parse("alice").unwrap())
}

fn hello(session: SessionId) -> String {
    format!(r#"{{"type":"hello","payload":{{"restore":true,"session_id":"{session}"}}}}"#)
}

/// What she asks in this session, as a connection that came then.
fn asks(session: SessionId, arrival: Instant) -> RestoreRequest {
    let (tenant, user) = (TenantId::default(), UserId::parse("alice").unwrap());
    let row = ConnectionRow { tenant: tenant.clone(), user: user.clone(), shard: 0, connected_at: Timestamp(1) };
    let number: RegistrationNumber = Directory::default().connect(session, row).number();
    RestoreRequest { session, tenant, user, since: Timestamp(1), arrival, number, shard: 0, awaited: false }
}

impl Table {
    /// A client that wants a record, with one live subscription at 5.
    fn keeping(&mut self) -> Slot {
        let slot = self.connect("alice");
        self.client_sends(slot, r#"{"type":"hello","payload":{"restore":true}}"#);
        self.shard.arrived(slot, Timestamp(1), Instant::now());
        self.live(slot, OPS, 5);
        slot
    }

    fn publish_numbers(&mut self, offsets: std::ops::RangeInclusive<u64>) {
        for offset in offsets {
            self.publish("collection:42", "ops", offset);
        }
    }

    /// The next ping is due, and goes out.
    fn pings(&mut self, slot: Slot) {
        self.now.mono_ms = self.shard.connection(slot).unwrap().ping_ms;
        self.shard.wake(slot, self.now);
    }

    fn answers_ping(&mut self, slot: Slot) {
        let payload = (self.now.mono_ms as u16).to_be_bytes();
        self.shard.pong(slot, &payload, self.now);
    }

    /// Where the one record stands, and whether it is exact.
    fn left(&mut self) -> (u64, bool) {
        let left = self.shard.take_left();
        let [(_, ClosedSessionRecord { record: SessionRecord { channels, exact }, .. })] = &left[..] else {
            panic!("one record, not {left:?}")
        };
        let [(channel, Some(position))] = &channels[..] else { panic!("one channel, not {channels:?}") };
        assert_eq!((&**channel, position.generation), (OPS, GENERATION));
        (position.offset, *exact)
    }
}

#[test]
fn a_ping_confirms_what_was_written_before_it() {
    let mut table = Table::new();
    let alice = table.keeping();
    table.publish_numbers(6..=8);
    table.received(alice);
    table.pings(alice);
    table.received(alice);
    table.publish_numbers(9..=9);
    table.answers_ping(alice);
    table.shard.remove(alice);
    assert_eq!(table.left(), (8, false));
}

#[test]
fn a_ping_before_which_something_waits_confirms_nothing() {
    let mut table = Table::new();
    let alice = table.keeping();
    table.publish_numbers(6..=6);
    table.received(alice);
    table.pings(alice);
    table.answers_ping(alice);
    table.received(alice);
    // The ping overtakes these.
    table.publish_numbers(7..=8);
    table.pings(alice);
    table.answers_ping(alice);
    table.shard.remove(alice);
    assert_eq!(table.left(), (6, false));
}

/// Or nobody would tell it of what it missed.
#[test]
fn a_gap_that_may_not_have_been_read_is_before_the_record() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    let channels = format!(r#"[{{"channel":"{OPS}","position":"7-2"}}]"#);
    table.client_sends(alice, &format!(r#"{{"type":"hello","payload":{{"restore":true,"channels":{channels}}}}}"#));
    table.shard.arrived(alice, Timestamp(1), Instant::now());
    let (joiner, after) = table.joiner();
    let gap = Gap { after, upto: at(9), reason: GapReason::Expired, certain: true };
    table.shard.joined(joiner, page(Start::Gap(gap), vec![], Some(9), false));
    assert_eq!(table.received(alice), [format!("subscribed {OPS}"), format!("gap {OPS}")]);
    table.shard.remove(alice);
    assert_eq!(table.left(), (2, false));
}

#[test]
fn a_close_that_is_answered_confirms_everything_that_was_queued() {
    let mut table = Table::new();
    let alice = table.keeping();
    table.publish_numbers(6..=9);
    table.shard.close(alice, Close::Restart);
    assert!(table.shard.take_left().is_empty(), "not before it is answered");
    table.shard.end(alice, Some(Close::Restart.code()), None);
    assert_eq!(table.left(), (9, true));
    table.shard.remove(alice);
    assert!(table.shard.take_left().is_empty(), "once");
}

#[test]
fn what_was_let_go_of_is_not_confirmed() {
    let fenced: fn(&mut Table, Slot) = |table, _| table.shard.fence(Duration::ZERO);
    let slow: fn(&mut Table, Slot) = |table, alice| assert!(table.shard.close(alice, Close::SlowConsumer));
    for (ends, code) in [(fenced, Close::Restart), (slow, Close::SlowConsumer)] {
        let mut table = Table::new();
        let alice = table.keeping();
        table.publish_numbers(6..=9);
        ends(&mut table, alice);
        table.shard.end(alice, Some(code.code()), None);
        assert_eq!(table.left(), (5, false), "{code:?}");
    }
}

#[test]
fn one_that_has_fallen_behind_goes_on_where_it_was() {
    let mut table = Table::new();
    let alice = table.keeping();
    table.shard.block(alice, table.now);
    table.publish_numbers(6..=100);
    table.shard.close(alice, Close::Restart);
    let queued = table.received(alice).iter().filter(|text| text.starts_with(OPS)).count() as u64;
    assert!(queued < 95, "it was too slow");
    table.shard.end(alice, Some(Close::Restart.code()), None);
    assert_eq!(table.left(), (5 + queued, true));
}

#[test]
fn a_session_that_waits_for_its_record_leaves_none_and_gets_one_that_came_too_late_not() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, &hello(own(7)));
    let arrival = Instant::now();
    table.shard.arrived(alice, Timestamp(1), arrival);
    let asked = asks(own(7), arrival);
    let record = SessionRecord { channels: vec![(OPS.into(), Some(at(5)))], exact: true };

    // Another session of hers, whose record comes in time.
    let other = table.connect("alice");
    table.client_sends(other, &hello(own(8)));
    table.shard.arrived(other, Timestamp(1), arrival);
    assert_eq!(table.shard.restored(&asks(own(8), arrival), RestoreResult::Found(record.clone()), table.now), None);
    assert_eq!(table.received(other), ["restored"]);
    assert_eq!(table.joiner().1, Some(at(5)));

    // This one's takes too long.
    table.now.mono_ms = table.shard.first_wake(alice, table.now);
    table.shard.wake(alice, table.now);
    assert_eq!(table.received(alice), ["error unavailable"]);
    assert_eq!(
        table.shard.restored(&asked, RestoreResult::Found(record.clone()), table.now),
        Some(record),
        "it is given back"
    );
    table.client_sends(alice, &hello(own(7)));
    table.shard.remove(alice);
    assert!(table.shard.take_left().is_empty(), "what it was to hold is another one's record still");
}

/// The record stays for the `hello` that follows the new token.
#[test]
fn a_record_that_comes_after_the_token_has_expired_is_given_back() {
    let record = SessionRecord { channels: vec![(OPS.into(), Some(at(5)))], exact: true };
    for (answer, given_back) in
        [(RestoreResult::Found(record.clone()), Some(record.clone())), (RestoreResult::Nothing, None)]
    {
        let mut table = Table::new();
        table.shard.rules.verifier.replace(verifier());
        table.now.unix_ms = NOW * 1_000;
        let token = |valid_s| {
            hs256(&with(claims("alice"), serde_json::json!({"exp": NOW + valid_s, "subscribe": ["collection:*"]})))
        };
        let session = Session::new(SessionId::from_random(1), None);
        let alice = table.shard.open(session, Opening::AwaitHello, table.now);
        let channels = r#"[{"channel":"collection:43"}]"#;
        let (session_id, first) = (own(7), token(2));
        let hello = format!(
            r#"{{"type":"hello","correlation_id":"h","payload":{{"token":"{first}","restore":true,"session_id":"{session_id}","channels":{channels}}}}}"#
        );
        table.client_sends(alice, &hello);
        let arrival = Instant::now();
        table.shard.arrived(alice, Timestamp(1), arrival);
        assert_eq!(table.received(alice), ["welcome"]);
        table.shard.take_identified();

        // The last moment at which it is accepted is a millisecond earlier.
        table.now.unix_ms += 2_000;
        assert_eq!(table.shard.restored(&asks(own(7), arrival), answer, table.now), given_back);
        assert_eq!(table.received(alice), ["error token_expired"]);
        assert!(table.requests().is_empty(), "it may not subscribe");
        assert_eq!(table.shard.take_identified(), [alice], "it is listed as it is");

        let second = token(60);
        table.client_sends(alice, &hello.replace(&first, &second));
        table.shard.arrived(alice, Timestamp(1), arrival);
        table.now.unix_ms += 57_999;
        let found = RestoreResult::Found(record.clone());
        assert_eq!(table.shard.restored(&asks(own(7), arrival), found, table.now), None);
        assert_eq!(table.received(alice), ["refreshed", "restored"]);
        assert_eq!(table.requests().len(), 2);
    }
}

#[test]
fn of_two_that_ask_for_one_session_each_hears_its_own_answer() {
    let mut table = Table::new();
    let first = Instant::now();
    let [one, other] = [first, first + std::time::Duration::from_millis(1)].map(|arrival| {
        let slot = table.connect("alice");
        table.client_sends(slot, &hello(own(7)));
        table.shard.arrived(slot, Timestamp(1), arrival);
        (slot, arrival)
    });
    assert_eq!(table.shard.restored(&asks(own(7), other.1), RestoreResult::Nothing, table.now), None);
    assert_eq!((table.received(one.0), table.received(other.0)), (vec![], vec!["restored".to_owned()]));
}

/// What became of its question, what the client did then; what it leaves.
#[test]
fn who_was_not_given_its_session_leaves_no_record_of_it() {
    type Then = fn(&mut Table, Slot);
    type Case<'a> = (&'a Option<RestoreResult>, Then, Option<&'a [&'a str]>);
    let record = || SessionRecord { channels: vec![(OPS.into(), Some(at(5)))], exact: true };
    let nothing: Then = |_, _| {};
    let subscribes: Then = |table, slot| table.live(slot, "collection:43", 5);
    let unsubscribes: Then = |table, slot| {
        table.client_sends(slot, &format!(r#"{{"type":"unsubscribe","channel":"{OPS}"}}"#));
    };
    let asks_again: Then = |table, slot| table.client_sends(slot, &hello(own(7)));
    let answers = [None, Some(RestoreResult::Nothing), Some(RestoreResult::Found(record()))];
    let [unavailable, none, found] = &answers;
    let cases: [Case<'_>; 9] = [
        (unavailable, nothing, None),
        (unavailable, subscribes, None),
        (unavailable, asks_again, None),
        (none, nothing, None),
        (none, subscribes, Some(&["collection:43"])),
        (none, asks_again, None),
        (found, nothing, Some(&[OPS])),
        (found, unsubscribes, Some(&[])),
        (found, asks_again, Some(&[OPS])),
    ];
    for (n, (answer, then, left)) in cases.into_iter().enumerate() {
        let mut table = Table::new();
        let (alice, arrival) = (table.connect("alice"), Instant::now());
        table.client_sends(alice, &hello(own(7)));
        table.shard.arrived(alice, Timestamp(1), arrival);
        match answer.clone() {
            Some(answer) => assert_eq!(table.shard.restored(&asks(own(7), arrival), answer, table.now), None),
            None => table.shard.give_up_restoring(alice),
        }
        if matches!(answer, Some(RestoreResult::Found(_))) {
            table.joiner();
        }
        table.received(alice);
        then(&mut table, alice);
        table.shard.remove(alice);
        let records: Vec<Vec<String>> = table.shard.take_left().into_iter().map(|(_, left)| channels(left)).collect();
        let expected: Vec<Vec<String>> =
            left.iter().map(|left| left.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(records, expected, "case {n}");
    }
}

fn channels(left: ClosedSessionRecord) -> Vec<String> {
    left.record.channels.into_iter().map(|(channel, _)| channel.into()).collect()
}

/// A new session that holds nothing may have asked for something that has not come.
#[test]
fn a_new_session_that_holds_nothing_leaves_no_record() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"hello","payload":{"restore":true}}"#);
    table.shard.arrived(alice, Timestamp(1), Instant::now());
    table.shard.remove(alice);
    assert!(table.shard.take_left().is_empty());
}

/// The token came with the upgrade; what the client wants it says later.
#[test]
fn a_session_that_is_open_already_leaves_one_too() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    assert_eq!(table.shard.take_identified(), [alice]);
    table.live(alice, OPS, 5);
    table.client_sends(alice, r#"{"type":"hello","payload":{"restore":true}}"#);
    assert_eq!(table.shard.take_identified(), [alice], "it is asked since when it is there");
}

#[test]
fn a_session_of_somebody_else_is_not_asked_for() {
    let mut table = Table::new();
    let bob = table.connect("bob");
    table.shard.take_identified();
    let before = table.shard.holder(bob).unwrap().0.id();
    table.client_sends(bob, &hello(own(7)));
    assert_eq!(table.received(bob), ["restored"], "at once: {before} goes on");
    assert_eq!(table.shard.holder(bob).map(|(session, _)| (session.id(), session.restoring())), Some((before, None)));
}
