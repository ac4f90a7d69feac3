//! Receipts: taken for what was sent, and for nothing else.

use message_router::{FamilyPolicy, OnIsolation};
use wire::FamilyShape;

use super::*;

/// `collection` keeps receipts, `system` does not.
fn table() -> Table {
    let family = |name: &str, keyed, receipts| {
        let policy = FamilyPolicy { receipts, ..FamilyPolicy::kept_for(60_000, 3, OnIsolation::Local) };
        (FamilyShape { name: name.into(), keyed }, policy)
    };
    let families = Families::default();
    let policies =
        families.iter().map(|(_, shape)| family(&shape.name, shape.keyed, shape.name == "collection")).collect();
    Table::with(Policies::new(policies))
}

impl Table {
    /// Acknowledges, and gives the code of the error if it was refused.
    fn acknowledges(&mut self, slot: Slot, channel: &str, position: &str) -> Option<String> {
        self.client_sends(slot, &format!(r#"{{"type":"receipt","channel":"{channel}","position":"{position}"}}"#));
        let received = self.received(slot);
        assert!(received.len() <= 1, "without an id there is no answer but an error: {received:?}");
        received.into_iter().next()
    }

    fn receipts(&mut self) -> Vec<(String, String, Position)> {
        let receipts = self.shard.take_receipts().into_iter();
        receipts.map(|r| (r.scope.to_string(), r.user.to_string(), r.position)).collect()
    }
}

fn of_alice(offset: u64) -> (String, String, Position) {
    ("default/collection:42".into(), "alice".into(), at(offset))
}

#[test]
fn a_receipt_is_of_the_scope_and_never_beyond_what_was_sent() {
    let mut table = table();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:*", 40);
    table.publish("collection:42", "ops", 41);
    table.received(alice);
    assert_eq!(table.acknowledges(alice, "collection:42:*", "7-41"), None);
    // Another channel of the same scope stands for it too.
    assert_eq!(table.acknowledges(alice, "collection:42", "7-40"), None);
    assert_eq!(table.receipts(), [of_alice(41), of_alice(40)]);

    for (channel, position, code) in [
        ("collection:42:*", "7-42", "invalid_position"),
        ("collection:42:*", "8-1", "invalid_position"),
        ("collection:43", "7-1", "not_subscribed"),
        ("no such family", "7-1", "invalid_channel"),
    ] {
        let refused = table.acknowledges(alice, channel, position).unwrap_or_default();
        assert_eq!(refused, format!("error {code}"), "{channel} {position}");
    }
    assert_eq!(table.receipts(), []);
    table.publish("collection:42", "ops", 42);
    table.received(alice);
    assert_eq!(table.acknowledges(alice, "collection:42:*", "7-42"), None);
    table.client_sends(alice, r#"{"type":"unsubscribe","channel":"collection:42:*"}"#);
    table.received(alice);
    assert_eq!(table.acknowledges(alice, "collection:42:*", "7-42").as_deref(), Some("error not_subscribed"));
}

#[test]
fn a_family_that_keeps_none_says_so() {
    let mut table = table();
    let alice = table.connect("alice");
    table.client_sends(alice, r#"{"type":"subscribe","channel":"system:news"}"#);
    assert_eq!(table.acknowledges(alice, "system:news", "7-1").as_deref(), Some("error invalid_field"));
}

/// A long replay is acknowledged page by page, and a slow client what it has got before it fell behind.
#[test]
fn who_catches_up_acknowledges_what_has_been_sent_so_far() {
    let mut table = table();
    let (bob, alice) = (table.connect("bob"), table.connect("alice"));
    table.live(bob, "collection:42:*", 9);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-2"}"#);
    let (joiner, _) = table.joiner();
    assert_eq!(table.acknowledges(alice, "collection:42", "7-2"), None, "it has brought that along");
    let ahead = "error invalid_position";
    assert_eq!(table.acknowledges(alice, "collection:42", "7-3").as_deref(), Some(ahead));
    table.shard.joined(joiner, page(Start::Resumed, vec![("a", 3), ("a", 4)], Some(4), true));
    table.received(alice);
    assert_eq!(table.acknowledges(alice, "collection:42", "7-4"), None);
    assert_eq!(table.acknowledges(alice, "collection:42", "7-9").as_deref(), Some(ahead), "bob has, and alice has not");
    assert_eq!(table.receipts(), [of_alice(2), of_alice(4)]);
}

#[test]
fn a_receipt_with_an_id_is_answered() {
    let mut table = table();
    let alice = table.connect("alice");
    table.live(alice, "collection:42:*", 40);
    table
        .client_sends(alice, r#"{"type":"receipt","channel":"collection:42","position":"7-40","correlation_id":"a1"}"#);
    assert_eq!(table.received(alice), ["receipt collection:42"]);
}
