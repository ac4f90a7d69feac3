//! Members and those who watch them: who is told what, in which order, and of whom nothing is kept.

use connection_registry::{Mark, Member, MemberList, MemberNews, Turn};
use message_router::{FamilyPolicy, OnIsolation};
use wire::FamilyShape;

use super::*;
use crate::hub::shard::{Attending, Listed, turn_frame};

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

fn mark(n: usize) -> Mark {
    (0..n).fold(Mark::default(), |mark, _| mark.next())
}

fn list(mark: Option<Mark>, users: &[&str]) -> Listed {
    let member = |name: &&str| {
        let user = UserId::parse(name).unwrap();
        Member { user, since: Timestamp(0), info: None, instances: Vec::new() }
    };
    let members: Vec<_> = users.iter().map(member).collect();
    Listed { scope: room(), mark, list: MemberList { count: users.len(), members } }
}

impl Table {
    /// "+alice", "-alice", "?" for a list that is asked for, "." when nobody watches.
    fn attending(&mut self) -> Vec<String> {
        let text = |attending| match attending {
            Attending::Entered(scope, user, _) => format!("+{user} {}", scope.name()),
            Attending::Exited(scope, user) => format!("-{user} {}", scope.name()),
            Attending::Watched(scope) => format!("? {}", scope.name()),
            Attending::Unwatched(scope) => format!(". {}", scope.name()),
        };
        self.shard.take_attending().into_iter().map(text).collect()
    }

    fn watches(&mut self, slot: Slot, id: &str) {
        self.says(slot, &format!(r#"{{"type":"presence","channel":"collection:42","correlation_id":"{id}"}}"#));
    }

    fn turns(&mut self, at: Mark, name: &str, turn: Turn) {
        let user = UserId::parse(name).unwrap();
        let news = MemberNews { scope: room().as_str().into(), user, at: Timestamp(0), count: 1, turn };
        self.shard.turned(&room(), at, &turn_frame(&room(), &news));
    }
}

#[test]
fn a_connection_is_a_member_from_its_first_subscription_that_stands_to_its_last() {
    let mut table = table();
    let alice = table.connect("alice");
    table.says(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.attending(), [""; 0], "it does not stand yet");
    let (joiner, _) = table.joiner();
    table.shard.joined(joiner, page(Start::Fresh, vec![], Some(0), false));
    assert_eq!(table.attending(), ["+alice collection:42"]);
    table.heard(alice);
    table.live(alice, "collection:42:ops", 0);
    table.live(alice, "system:news", 0);
    table.says(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.attending(), [""; 0]);
    table.says(alice, r#"{"type":"unsubscribe","channel":"collection:42:ops"}"#);
    assert_eq!(table.attending(), ["-alice collection:42"]);
    // One that ends before it stood has never been.
    table.says(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
    table.says(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.attending(), [""; 0]);
}

/// However a connection ends, it has left; a degraded subscription stands too.
#[test]
fn every_end_of_a_connection_is_one_exit() {
    for how in ["removed", "closed", "ended", "fenced"] {
        let mut table = table();
        let alice = table.connect("alice");
        table.says(alice, r#"{"type":"subscribe","channel":"collection:42:*"}"#);
        let (joiner, _) = table.joiner();
        table.shard.joined(joiner, page(Start::Degraded, vec![], None, false));
        table.shard.joined(joiner, page(Start::Fresh, vec![], Some(0), false));
        assert_eq!(table.attending(), ["+alice collection:42"]);
        match how {
            "closed" => drop(table.shard.close(alice, Close::Kicked)),
            "ended" => table.shard.end(alice, None, None),
            "fenced" => table.shard.fence(std::time::Duration::ZERO),
            _ => {}
        }
        table.shard.remove(alice);
        assert_eq!(table.attending(), ["-alice collection:42"], "{how}");
    }
}

#[test]
fn a_list_comes_first_and_then_what_is_behind_it() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    table.live(alice, "collection:42:*", 0);
    table.live(bob, "collection:42:*", 0);
    table.attending();
    table.watches(alice, "w");
    assert_eq!(table.attending(), ["? collection:42"]);
    table.turns(mark(1), "carol", Turn::Joined(None));
    assert_eq!(table.heard(alice), [""; 0], "the list will have it");
    table.shard.listed(&list(Some(mark(2)), &["alice", "bob", "carol"]));
    table.turns(mark(2), "dave", Turn::Joined(None));
    table.turns(mark(3), "carol", Turn::Left);
    assert_eq!(table.heard(alice), ["presence", "left"]);
    assert_eq!(table.heard(bob), [""; 0], "he has not asked");

    // Another question is answered, and nothing is told twice for it.
    table.watches(alice, "again");
    table.turns(mark(4), "erin", Turn::Joined(None));
    table.shard.listed(&list(Some(mark(5)), &["alice", "bob", "erin"]));
    table.turns(mark(5), "frank", Turn::Joined(None));
    table.turns(mark(6), "frank", Turn::Left);
    assert_eq!(table.heard(alice), ["joined", "presence", "left"]);
}

#[test]
fn after_an_interruption_everybody_who_watches_is_given_the_list_anew() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    for slot in [alice, bob] {
        table.live(slot, "collection:42:*", 0);
        table.watches(slot, "w");
    }
    table.shard.listed(&list(Some(mark(7)), &["alice", "bob"]));
    table.heard(alice);
    table.heard(bob);
    table.attending();
    table.shard.watch_anew();
    assert_eq!(table.attending(), ["? collection:42"], "once for all");
    // What this instance knows itself is for those who ask, and is no list to go on from.
    table.watches(bob, "stale");
    table.shard.listed(&list(None, &["bob"]));
    table.turns(mark(9), "carol", Turn::Joined(None));
    assert_eq!((table.heard(alice), table.heard(bob)), (vec![], vec!["presence".to_owned()]));
    // The new Redis counts from the beginning.
    table.shard.listed(&list(Some(mark(1)), &["alice", "bob"]));
    table.turns(mark(2), "carol", Turn::Joined(None));
    for slot in [alice, bob] {
        assert_eq!(table.heard(slot), ["presence", "joined"]);
    }
}

#[test]
fn whoever_leaves_the_scope_is_told_no_more_and_the_last_one_says_so() {
    let mut table = table();
    let (alice, bob) = (table.connect("alice"), table.connect("bob"));
    for slot in [alice, bob] {
        table.live(slot, "collection:42:*", 0);
        table.watches(slot, "w");
    }
    table.shard.listed(&list(Some(mark(1)), &["alice", "bob"]));
    table.attending();
    table.says(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    assert_eq!(table.attending(), ["-alice collection:42"]);
    table.turns(mark(2), "carol", Turn::Joined(None));
    assert_eq!(table.heard(alice), ["presence", "unsubscribed collection:42:*"]);
    assert_eq!(table.heard(bob), ["presence", "joined"]);
    table.shard.remove(bob);
    assert_eq!(table.attending(), [". collection:42", "-bob collection:42"]);
    // A list that was on its way finds nobody.
    table.shard.listed(&list(Some(mark(3)), &["alice"]));
    assert_eq!(table.heard(alice), [""; 0]);
}

#[test]
fn presence_is_refused_where_there_is_none_and_to_whom_it_is_not_due() {
    let mut table = table();
    let alice = table.connect("alice");
    table.live(alice, "system:news", 0);
    for (channel, code) in
        [("system:news", "invalid_field"), ("collection:42", "not_subscribed"), ("no such family", "invalid_channel")]
    {
        table.says(alice, &format!(r#"{{"type":"presence","channel":"{channel}"}}"#));
        assert_eq!(table.heard(alice), [format!("error {code}")], "{channel}");
    }
    // Nothing is kept of families without presence.
    assert_eq!(table.attending(), [""; 0]);
    table.shard.remove(alice);
    assert_eq!(table.attending(), [""; 0]);
}
