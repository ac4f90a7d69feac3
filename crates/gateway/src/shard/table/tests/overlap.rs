//! Subscriptions of one client in one scope, asked for one after the other.

use super::*;

/// Nothing is owed to the live ones, and what is asked for last would come before what was asked for first.
#[test]
fn a_subscription_waits_for_an_older_one_that_reads_back_though_others_are_live() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:ops", 0);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:comments","position":"7-2"}"#);
    let (older, after) = table.joiner();
    assert_eq!(after, Some(at(2)));
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:cursor"}"#);
    assert_eq!(table.requests().len(), 0, "the older one comes first");
    table.shard.joined(older, page(Start::Resumed, vec![("comments", 3)], Some(3), false));
    assert_eq!(table.received(alice), ["subscribed collection:42:comments", "collection:42:comments@3"]);
    table.shard.resume_replays(alice);
    assert_eq!(table.joiner().1, None, "now it begins");
}

#[test]
fn a_subscription_with_a_position_waits_for_an_older_one_and_not_for_itself() {
    let mut table = Table::new();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:ops","position":"7-2"}"#);
    let (older, _) = table.joiner();
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:comments","position":"7-1"}"#);
    table.shard.resume_replays(alice);
    assert_eq!(table.requests().len(), 0, "the older one comes first");
    table.shard.joined(older, page(Start::Resumed, vec![("ops", 3)], Some(3), false));
    assert_eq!(table.received(alice), ["subscribed collection:42:ops", "collection:42:ops@3"]);
    table.shard.resume_replays(alice);
    assert_eq!(table.joiner().1, Some(at(1)), "now it begins");
}

/// What another client reads, and what begins at the newest message, brings nothing older than what is to come.
#[test]
fn a_subscription_waits_neither_for_another_client_nor_for_one_that_began_afresh() {
    let mut table = Table::new();
    let (bob, alice) = (table.connect("bob"), table.connect("alice"));
    table.client_sends(bob, r#"{"type":"subscribe","channel":"collection:42:ops","position":"7-2"}"#);
    assert_eq!(table.joiner().1, Some(at(2)));
    for channel in ["ops", "comments", "cursor"] {
        table.client_sends(alice, &format!(r#"{{"type":"subscribe","channel":"collection:42:{channel}"}}"#));
        assert_eq!(table.joiner().1, None, "{channel} is asked for at once");
    }
}
