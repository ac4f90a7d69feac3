//! The directory's notes of changes: exact whatever happens between two heartbeats.

use std::time::Duration;

use super::*;
use crate::clock_offset::{ClockOffset, Sample};
use crate::connection_limits::{ConnectionLimits, OnExcess};
use crate::connection_row::RowChange;
use crate::session_close::CloseReason;

mod model;

const ANY: usize = usize::MAX;

fn session(number: u128) -> SessionId {
    SessionId::from_random(number)
}

fn row(user: &str) -> ConnectionRow {
    ConnectionRow {
        tenant: TenantId::default(),
        user: UserId::parse(user).unwrap(),
        shard: 0,
        connected_at: Timestamp(1_795_176_000_000),
    }
}

fn put(number: u128, user: &str) -> RowChange {
    RowChange::Put(session(number), row(user), row(user).connected_at)
}

#[test]
fn a_connection_is_synced_once_and_its_end_too() {
    let directory = Directory::default();
    let registration = directory.connect(session(1), row("alice"));
    assert_eq!(directory.get(session(1)), Some(row("alice")));
    assert_eq!(directory.take(ANY, None), [put(1, "alice")]);
    assert_eq!(directory.take(ANY, None), []);
    directory.disconnect(registration);
    assert_eq!(directory.get(session(1)), None);
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(1))]);
    assert_eq!(directory.take(ANY, None), []);
}

#[test]
fn what_comes_and_goes_between_two_heartbeats_costs_nothing() {
    let directory = Directory::default();
    let registration = directory.connect(session(1), row("alice"));
    directory.disconnect(registration);
    assert_eq!(directory.take(ANY, None), []);
}

#[test]
fn a_session_that_leaves_and_returns_is_one_change() {
    let directory = Directory::default();
    let registration = directory.connect(session(1), row("alice"));
    directory.take(ANY, None);
    directory.disconnect(registration);
    let registration = directory.connect(session(1), row("bob"));
    assert_eq!(directory.take(ANY, None), [put(1, "bob")]);
    // The store may list the session, so its removal must be written.
    directory.disconnect(registration);
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(1))]);

    let registration = directory.connect(session(2), row("alice"));
    directory.take(ANY, None);
    directory.disconnect(registration);
    let registration = directory.connect(session(2), row("alice"));
    directory.disconnect(registration);
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(2))]);
}

#[test]
fn the_end_of_an_older_socket_does_not_remove_its_sessions_row() {
    let directory = Directory::default();
    let older = directory.connect(session(1), row("alice"));
    let newer = directory.connect(session(1), row("alice"));
    directory.take(ANY, None);
    directory.disconnect(older);
    assert_eq!(directory.len(), 1);
    assert_eq!(directory.take(ANY, None), []);
    directory.disconnect(newer);
    assert!(directory.is_empty());
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(1))]);
}

#[test]
fn a_batch_is_bounded_and_nothing_is_left_out() {
    let directory = Directory::default();
    let registrations: Vec<Registration> = (0..10).map(|n| directory.connect(session(n), row("alice"))).collect();
    assert_eq!(directory.take(4, None).len(), 4);
    assert_eq!(directory.take(ANY, None).len(), 6);
    for registration in registrations {
        directory.disconnect(registration);
    }
    let _registration = directory.connect(session(20), row("bob"));
    let batches = [directory.take(6, None), directory.take(6, None)];
    assert_eq!(batches.each_ref().map(Vec::len), [6, 5]);
    let puts = batches.concat().into_iter().filter(|change| matches!(change, RowChange::Put(..))).count();
    assert_eq!(puts, 1);
}

#[test]
fn a_batch_of_unknown_fate_is_synced_again_as_things_are_then() {
    let directory = Directory::default();
    let leaving = directory.connect(session(1), row("alice"));
    let _staying = directory.connect(session(2), row("bob"));
    let batch = directory.take(ANY, None);
    directory.disconnect(leaving);
    directory.put_back(batch);
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(1)), put(2, "bob")]);
}

/// The session returns while the write of its removal gets no answer: the store may list it.
#[test]
fn the_end_of_a_session_that_may_be_listed_is_synced() {
    let directory = Directory::default();
    let registration = directory.connect(session(1), row("alice"));
    directory.take(ANY, None);
    directory.disconnect(registration);
    let removal = directory.take(ANY, None);
    let registration = directory.connect(session(1), row("alice"));
    directory.put_back(removal);
    directory.disconnect(registration);
    assert_eq!(directory.take(ANY, None), [RowChange::Remove(session(1))]);
}

#[test]
fn a_rewrite_tells_everybody_who_is_here_and_nobody_else() {
    let directory = Directory::default();
    let gone = directory.connect(session(1), row("alice"));
    let leaving = directory.connect(session(2), row("bob"));
    let _staying = directory.connect(session(3), row("carol"));
    directory.take(ANY, None);
    directory.disconnect(gone);
    directory.rewrite();
    directory.disconnect(leaving);
    assert!(directory.take_rewrite());
    assert!(!directory.take_rewrite(), "said once");
    assert_eq!(directory.take(ANY, None), [put(3, "carol")]);
}

#[test]
fn too_many_removals_become_a_rewrite() {
    let directory = Directory::default();
    let _staying = directory.connect(session(0), row("alice"));
    let numbers = 1..=GONE_SESSIONS_MAX as u128 + 1;
    let registrations: Vec<Registration> = numbers.map(|n| directory.connect(session(n), row("bob"))).collect();
    directory.take(ANY, None);
    for registration in registrations {
        directory.disconnect(registration);
    }
    assert!(directory.take_rewrite());
    assert_eq!(directory.take(ANY, None), [put(0, "alice")]);
}

#[test]
fn earlier_arrivals_are_synced_first() {
    let directory = Directory::default();
    let arrival = [5, 3, 9, 1, 7];
    let mut registrations = arrival.map(|n| Some(directory.connect(session(n), row("alice"))));
    let reported = |changes: Vec<RowChange>| changes.iter().map(RowChange::session).collect::<Vec<_>>();
    assert_eq!(reported(directory.take(2, None)), [session(5), session(3)]);
    directory.disconnect(registrations[2].take().unwrap());
    let _again = directory.connect(session(9), row("alice"));
    assert_eq!(reported(directory.take(ANY, None)), [session(1), session(7), session(9)], "it has come again");
    directory.rewrite();
    assert_eq!(reported(directory.take(ANY, None)), [session(5), session(3), session(1), session(7), session(9)]);
}

#[test]
fn who_is_one_too_many_here() {
    let limits = |per_user_max, per_tenant_max, on_excess| ConnectionLimits { per_user_max, per_tenant_max, on_excess };
    let directory = Directory::default();
    let users = ["alice", "bob", "alice", "alice", "carol"];
    let _registrations: Vec<_> = (1..).zip(users).map(|(n, user)| directory.connect(session(n), row(user))).collect();
    let excess = |limits| {
        let mut found: Vec<_> = directory.excess(limits).iter().map(|(c, _)| (c.session, c.why)).collect();
        found.sort_by_key(|(session, _)| session.to_string());
        found
    };
    assert_eq!(excess(limits(0, 0, OnExcess::Reject)), []);
    assert_eq!(excess(limits(3, 5, OnExcess::Reject)), []);
    assert_eq!(excess(limits(2, 0, OnExcess::Reject)), [(session(4), CloseReason::TooMany)]);
    assert_eq!(excess(limits(2, 0, OnExcess::CloseOldest)), [(session(1), CloseReason::Replaced)]);
    assert_eq!(
        excess(limits(0, 3, OnExcess::Reject)),
        [(session(4), CloseReason::TooMany), (session(5), CloseReason::TooMany)]
    );
    // A connection that is closed for its user leaves room for others of the tenant.
    assert_eq!(excess(limits(2, 4, OnExcess::Reject)), [(session(4), CloseReason::TooMany)]);
}

/// The store identifies a connection by its time of arrival: a better clock offset must not change it later.
#[test]
fn a_connection_has_one_date_until_everything_is_written_anew() {
    let has_store_time = |changes: Vec<RowChange>| match &changes[..] {
        [RowChange::Put(_, row, latest)] => (row.connected_at.0, latest.0),
        other => panic!("one is put: {other:?}"),
    };
    let start = Instant::now();
    let slow = Sample { sent: start, read: row("alice").connected_at, received: start + Duration::from_secs(3_600) };
    let quick = Sample { received: start, ..slow };
    let directory = Directory::default();
    let _registration = directory.connect(session(1), row("alice"));
    assert_eq!(directory.registered(session(1)).unwrap().1, None);
    let batch = directory.take(ANY, Some(ClockOffset::new(slow)));
    let (earliest, latest) = has_store_time(batch.clone());
    assert!(latest - earliest >= 3_600_000, "{earliest} {latest}");
    directory.put_back(batch);
    let mut better = ClockOffset::new(slow);
    assert!(!better.narrow(quick));
    let again = has_store_time(directory.take(ANY, Some(better)));
    assert_eq!(again.0, earliest);
    assert_eq!(directory.registered(session(1)).unwrap().1, Some(Timestamp(earliest)));
    directory.rewrite();
    assert_eq!(directory.registered(session(1)).unwrap().1, None);
    assert!(has_store_time(directory.take(ANY, Some(better))).0 > earliest);
}
