//! The notes of member changes under a literal clock: which changes are written to the store.

use super::member_table::GONE_MEMBERS_MAX;
use super::*;
use wire::Families;

mod model;

const NOW: Timestamp = Timestamp(1_795_176_000_000);

fn room(id: u32) -> Scope {
    Families::default().parse_scope(&format!("acme/collection:{id}")).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn info() -> MemberInfo {
    Some(std::sync::Arc::new(r#"{"name":"A"}"#.to_owned()))
}

fn enter(presence: &Presence, name: &str) {
    presence.enter(&room(1), &user(name), &info(), NOW);
}

fn exit(presence: &Presence, name: &str) {
    presence.exit(&room(1), &user(name));
}

/// "+alice" and "-bob", sorted.
fn taken(presence: &Presence, max: usize) -> Vec<String> {
    let text = |change: &MemberChange| match change {
        MemberChange::Enter(_, user, _) => format!("+{user}"),
        MemberChange::Exit(_, user) => format!("-{user}"),
    };
    let mut taken: Vec<_> = presence.take(max).iter().map(text).collect();
    taken.sort();
    taken
}

#[test]
fn the_store_hears_of_the_first_connection_and_of_the_last() {
    let presence = Presence::default();
    enter(&presence, "alice");
    enter(&presence, "alice");
    assert_eq!(presence.len(), 1);
    assert_eq!(presence.take(9), [MemberChange::Enter(room(1), user("alice"), info())]);
    exit(&presence, "alice");
    assert_eq!(taken(&presence, 9), [""; 0]);
    exit(&presence, "alice");
    assert_eq!(presence.take(9), [MemberChange::Exit(room(1), user("alice"))]);
    assert!(presence.is_empty() && presence.take(9).is_empty());
}

#[test]
fn a_client_that_comes_and_goes_between_two_batches_costs_nothing() {
    let presence = Presence::default();
    enter(&presence, "alice");
    exit(&presence, "alice");
    assert_eq!(taken(&presence, 9), [""; 0]);
    // A member that the store lists is written again: the store may have started its grace.
    enter(&presence, "bob");
    assert_eq!(taken(&presence, 9), ["+bob"]);
    exit(&presence, "bob");
    enter(&presence, "bob");
    assert_eq!(taken(&presence, 9), ["+bob"]);
    exit(&presence, "bob");
    enter(&presence, "bob");
    exit(&presence, "bob");
    assert_eq!(taken(&presence, 9), ["-bob"]);
}

#[test]
fn a_batch_of_unknown_fate_is_synced_again_as_things_are_now() {
    let presence = Presence::default();
    enter(&presence, "alice");
    enter(&presence, "bob");
    let batch = presence.take(9);
    exit(&presence, "bob");
    presence.put_back(batch);
    assert_eq!(taken(&presence, 9), ["+alice", "-bob"]);
    exit(&presence, "alice");
    let batch = presence.take(9);
    enter(&presence, "alice");
    presence.put_back(batch);
    assert_eq!(taken(&presence, 9), ["+alice"]);
    exit(&presence, "alice");
    assert_eq!(taken(&presence, 9), ["-alice"]);
}

/// The member returns while the write of its departure gets no answer: the store may list it.
#[test]
fn the_end_of_a_member_that_may_be_listed_is_synced() {
    let presence = Presence::default();
    enter(&presence, "alice");
    presence.take(9);
    exit(&presence, "alice");
    let departure = presence.take(9);
    enter(&presence, "alice");
    presence.put_back(departure);
    exit(&presence, "alice");
    assert_eq!(taken(&presence, 9), ["-alice"]);
    assert_eq!(presence.take(9), []);
}

#[test]
fn batches_are_bounded_and_leave_nothing_out() {
    let presence = Presence::default();
    (0..10).for_each(|n| enter(&presence, &format!("u{n}")));
    let sizes: Vec<usize> = (0..4).map(|_| presence.take(4).len()).collect();
    assert_eq!(sizes, [4, 4, 2, 0]);
}

#[test]
fn a_rewrite_tells_of_those_who_are_here_and_of_nobody_else() {
    let presence = Presence::default();
    presence.rewrite();
    assert!(!presence.take_rewrite(), "where nobody ever was there is nothing to write anew");
    enter(&presence, "alice");
    enter(&presence, "bob");
    presence.take(9);
    exit(&presence, "bob");
    presence.rewrite();
    assert!(presence.take_rewrite() && !presence.take_rewrite());
    assert_eq!(taken(&presence, 9), ["+alice"]);
    // A store that has lost the departure may still list the member.
    exit(&presence, "alice");
    assert_eq!(taken(&presence, 9), ["-alice"]);
    presence.rewrite();
    assert!(presence.take_rewrite());
}

#[test]
fn more_departures_than_are_remembered_are_a_rewrite() {
    let presence = Presence::default();
    let rooms: Vec<Scope> = (0..=GONE_MEMBERS_MAX as u32).map(room).collect();
    rooms.iter().for_each(|room| presence.enter(room, &user("alice"), &None, NOW));
    while !presence.take(10_000).is_empty() {}
    enter(&presence, "bob");
    rooms.iter().for_each(|room| presence.exit(room, &user("alice")));
    assert!(presence.take_rewrite());
    assert_eq!(taken(&presence, 9), ["+bob"]);
}

#[test]
fn the_members_here_are_counted_and_some_are_shown() {
    let presence = Presence::default();
    for name in ["alice", "bob", "carol"] {
        enter(&presence, name);
    }
    let list = presence.here(&room(1), 2);
    assert_eq!((list.count, list.members.len()), (3, 2));
    assert_eq!((list.members[0].since, &list.members[0].info), (NOW, &info()));
    assert_eq!(presence.here(&room(2), 2), MemberList::default());
}
