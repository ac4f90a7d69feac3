//! Members and their watchers: who is told what, in which order, and for which clients nothing is kept.

use connection_registry::{Member, MemberList, PresenceCursor, PresenceEvent, PresenceTransition};
use message_router::{FamilyPolicy, OnIsolation};
use serde_json::json;
use wire::FamilyShape;

use super::*;
use crate::auth::signed;
use crate::host::reloadable::Reloadable;
use crate::shard::requests::PresenceList;
use crate::shard::table::PresenceUpdate;

/// `collection` has presence, `system` has not.
fn table() -> Table {
    let families = Families::default();
    let family = |shape: &FamilyShape| {
        let presence = shape.name == "collection";
        (shape.clone(), FamilyPolicy { presence, ..FamilyPolicy::kept_for(60_000, 3, OnIsolation::Local) })
    };
    Table::with(Policies::new(families.iter().map(|(_, shape)| family(shape)).collect()))
}

fn room() -> Scope {
    Families::default().parse_scope("default/collection:42").unwrap()
}

fn cursor(n: usize) -> PresenceCursor {
    (0..n).fold(PresenceCursor::default(), |cursor, _| cursor.next())
}

fn list(cursor: Option<PresenceCursor>, users: &[&str]) -> PresenceList {
    let member = |name: &&str| {
        let user = UserId::parse(name).unwrap();
        Member { user, since: Timestamp(0), info: None, instances: Vec::new() }
    };
    let members: Vec<_> = users.iter().map(member).collect();
    PresenceList { scope: room(), cursor, list: MemberList { count: users.len(), members } }
}

impl Table {
    /// "+alice", "-alice", "?" for a list that is asked for, "." when nobody watches.
    fn update(&mut self) -> Vec<String> {
        let text = |update| match update {
            PresenceUpdate::Entered(scope, user, _) => format!("+{user} {}", scope.name()),
            PresenceUpdate::Exited(scope, user) => format!("-{user} {}", scope.name()),
            PresenceUpdate::Watched(scope) => format!("? {}", scope.name()),
            PresenceUpdate::Unwatched(scope) => format!(". {}", scope.name()),
        };
        self.shard.take_presence_updates().into_iter().map(text).collect()
    }

    fn watches(&mut self, slot: Slot, id: &str) {
        self.client_sends(slot, &format!(r#"{{"type":"presence","channel":"collection:42","correlation_id":"{id}"}}"#));
    }

    fn turns(&mut self, at: PresenceCursor, name: &str, transition: PresenceTransition) {
        let user = UserId::parse(name).unwrap();
        let event = PresenceEvent { scope: room().as_str().into(), user, at: Timestamp(0), count: 1, transition };
        self.shard.presence_changed(&room(), at, &event);
    }
}

#[test]
fn a_new_token_that_takes_the_scope_back_ends_membership_and_watch() {
    let mut table = table();
    Arc::get_mut(&mut table.shard.rules).unwrap().verifier = Reloadable::new(signed::verifier());
    table.now.unix_ms = signed::NOW * 1_000;
    let token = |grants: &[&str]| signed::hs256(&signed::with(signed::claims("alice"), json!({ "subscribe": grants })));
    let slot = table.shard.open(Session::new(SessionId::from_random(1), None), Opening::AwaitHello, table.now);
    table.client_sends(slot, &format!(r#"{{"type":"hello","payload":{{"token":"{}"}}}}"#, token(&["collection:*"])));
    assert_eq!(table.received(slot), ["welcome"]);
    table.live(slot, "collection:42:ops", 0);
    table.watches(slot, "w");
    assert_eq!(table.update(), ["+alice collection:42", "? collection:42"]);
    table.shard.presence_listed(&list(Some(cursor(1)), &["alice"]));
    assert_eq!(table.received(slot), ["presence"]);
    table.client_sends(slot, &format!(r#"{{"type":"refresh","payload":{{"token":"{}"}}}}"#, token(&["system:*"])));
    assert_eq!(table.received(slot), ["refreshed", "error forbidden", "unsubscribed collection:42:ops"]);
    assert_eq!(table.update(), [". collection:42", "-alice collection:42"]);
    table.turns(cursor(2), "bob", PresenceTransition::Joined(None));
    table.watches(slot, "again");
    assert_eq!(table.received(slot), ["error not_subscribed"]);
}

#[test]
fn a_connection_is_a_member_from_its_first_subscription_that_stands_to_its_last() {
    let mut table = table();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.update(), [""; 0], "it does not stand yet");
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(0), false));
    assert_eq!(table.update(), ["+alice collection:42"]);
    table.received(alice);
    table.live(alice, "collection:42:ops", 0);
    table.live(alice, "system:news", 0);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.update(), [""; 0]);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:ops"}"#);
    assert_eq!(table.update(), ["-alice collection:42"]);
    // One that ends before it stood has never been.
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.update(), [""; 0]);
}

/// However a connection ends, it has left; a degraded subscription stands too.
#[test]
fn every_end_of_a_connection_is_one_exit() {
    for how in ["removed", "closed", "ended", "fenced"] {
        let mut table = table();
        let alice = table.connect("alice");
        table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
        let (joiner, _) = table.joiner();
        table.shard.joined(joiner, page(Start::Degraded, vec![], None, false));
        table.shard.joined(joiner, page(Start::Fresh, vec![], Some(0), false));
        assert_eq!(table.update(), ["+alice collection:42"]);
        match how {
            "closed" => drop(table.shard.close(alice, Close::Kicked)),
            "ended" => table.shard.end(alice, None, None),
            "fenced" => table.shard.fence(std::time::Duration::ZERO),
            _ => {}
        }
        table.shard.remove(alice);
        assert_eq!(table.update(), ["-alice collection:42"], "{how}");
    }
}

#[test]
fn a_list_comes_first_and_then_what_is_behind_it() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    table.live(alice, "collection:42:*", 0);
    table.live(bob, "collection:42:*", 0);
    table.update();
    table.watches(alice, "w");
    assert_eq!(table.update(), ["? collection:42"]);
    table.turns(cursor(1), "carol", PresenceTransition::Joined(None));
    assert_eq!(table.received(alice), [""; 0], "the list will have it");
    table.shard.presence_listed(&list(Some(cursor(2)), &["alice", "bob", "carol"]));
    table.turns(cursor(2), "dave", PresenceTransition::Joined(None));
    table.turns(cursor(3), "carol", PresenceTransition::Left);
    assert_eq!(table.received(alice), ["presence", "left"]);
    assert_eq!(table.received(bob), [""; 0], "he has not asked");

    // Another question is answered, and nothing is told twice for it.
    table.watches(alice, "again");
    table.turns(cursor(4), "erin", PresenceTransition::Joined(None));
    table.shard.presence_listed(&list(Some(cursor(5)), &["alice", "bob", "erin"]));
    table.turns(cursor(5), "frank", PresenceTransition::Joined(None));
    table.turns(cursor(6), "frank", PresenceTransition::Left);
    assert_eq!(table.received(alice), ["joined", "presence", "left"]);
}

#[test]
fn after_an_interruption_everybody_who_watches_is_given_the_list_anew() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    for slot in [alice, bob] {
        table.live(slot, "collection:42:*", 0);
        table.watches(slot, "w");
    }
    table.shard.presence_listed(&list(Some(cursor(7)), &["alice", "bob"]));
    table.received(alice);
    table.received(bob);
    table.update();
    table.shard.resync_presence();
    assert_eq!(table.update(), ["? collection:42"], "once for all");
    // What this instance knows itself is for those who ask, and is no list to go on from.
    table.watches(bob, "stale");
    table.shard.presence_listed(&list(None, &["bob"]));
    table.turns(cursor(9), "carol", PresenceTransition::Joined(None));
    assert_eq!((table.received(alice), table.received(bob)), (vec![], vec!["presence".to_owned()]));
    // The new Redis counts from the beginning.
    table.shard.presence_listed(&list(Some(cursor(1)), &["alice", "bob"]));
    table.turns(cursor(2), "carol", PresenceTransition::Joined(None));
    for slot in [alice, bob] {
        assert_eq!(table.received(slot), ["presence", "joined"]);
    }
}

#[test]
fn a_client_that_leaves_the_scope_is_told_no_more_and_the_last_one_says_so() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    for slot in [alice, bob] {
        table.live(slot, "collection:42:*", 0);
        table.watches(slot, "w");
    }
    table.shard.presence_listed(&list(Some(cursor(1)), &["alice", "bob"]));
    table.update();
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.update(), ["-alice collection:42"]);
    table.turns(cursor(2), "carol", PresenceTransition::Joined(None));
    assert_eq!(table.received(alice), ["presence", "unsubscribed collection:42:*"]);
    assert_eq!(table.received(bob), ["presence", "joined"]);
    table.shard.remove(bob);
    assert_eq!(table.update(), [". collection:42", "-bob collection:42"]);
    // A list that was on its way finds nobody.
    table.shard.presence_listed(&list(Some(cursor(3)), &["alice"]));
    assert_eq!(table.received(alice), [""; 0]);
}

#[test]
fn presence_is_refused_where_there_is_none_and_to_whom_it_is_not_due() {
    let mut table = table();
    let alice = table.connect("alice");
    table.live(alice, "system:news", 0);
    for (channel, code) in
        [("system:news", "invalid_field"), ("collection:42", "not_subscribed"), ("no such family", "invalid_channel")]
    {
        table.client_sends(alice, &format!(r#"{{"type":"presence","channel":"{channel}"}}"#));
        assert_eq!(table.received(alice), [format!("error {code}")], "{channel}");
    }
    // Nothing is kept of families without presence.
    assert_eq!(table.update(), [""; 0]);
    table.shard.remove(alice);
    assert_eq!(table.update(), [""; 0]);
}
