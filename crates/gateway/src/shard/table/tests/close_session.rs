//! Connections that an operator lists, and those that are closed on another one's word.

use connection_registry::{CloseReason, SessionClose};
use tokio::sync::oneshot;

use super::*;
use crate::config::CLOSE_TIMEOUT;
use crate::session::bind;
use crate::shard::requests::Listing;

impl Table {
    /// A connection of this session.
    fn of_session(&mut self, user: &str, session: SessionId) -> Slot {
        let slot = self.connect(user);
        self.client_sends(slot, &format!(r#"{{"type":"hello","payload":{{"session_id":"{session}"}}}}"#));
        slot
    }

    /// A listing, as `tenant/user`.
    fn lists(&self, tenant: Option<&str>, users: &[&str], most: usize) -> Vec<String> {
        let (answer, mut listed) = oneshot::channel();
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).unwrap());
        let users = users.iter().map(|user| UserId::parse(user).unwrap()).collect();
        self.shard.list(Listing { tenant, users, most, answer });
        let text = |row: &Value| format!("{}/{}", row["tenant"].as_str().unwrap(), row["user"].as_str().unwrap());
        listed.try_recv().unwrap().iter().map(text).collect()
    }
}

fn session(n: u128) -> SessionId {
    SessionId::from_random(n)
}

/// A session of this user in the tenant of [`Table::connect`].
fn own(n: u128, user: &str) -> SessionId {
    bind(session(n), &TenantId::default(), &UserId::parse(user).unwrap())
}

#[test]
fn a_dismissed_session_is_told_why_and_nobody_else_is() {
    for (why, expected) in [
        (CloseReason::TooMany, &["error too_many_connections", "bye", "close 4005"][..]),
        (CloseReason::Replaced, &["bye", "close 4504"]),
        (CloseReason::Kicked, &["bye", "close 4505"]),
    ] {
        let mut table = Table::new();
        let [one, two, spared, closing] = [7; 4].map(|n| table.of_session("alice", own(n, "alice")));
        let other = table.of_session("alice", own(8, "alice"));
        table.shard.close(closing, Close::Restart);
        table.received(closing);
        let dismissed =
            table.shard.close_session(SessionClose { session: own(7, "alice"), why }, |slot| slot != spared);
        assert_eq!(dismissed, [one, two], "those that are open and meant");
        for slot in [one, two] {
            assert_eq!(table.received(slot), expected);
        }
        for slot in [spared, other, closing] {
            assert_eq!(table.received(slot), [""; 0], "{slot}");
        }
    }
}

/// Somebody waits for the record of a session that goes on elsewhere.
#[test]
fn a_session_that_goes_on_elsewhere_has_less_time_to_answer_its_close() {
    let close_timeout_ms = CLOSE_TIMEOUT.as_millis() as u64;
    for (keeps, close, timeout_ms) in [
        (true, Close::Replaced, 1_000),
        (true, Close::Kicked, close_timeout_ms),
        (false, Close::Replaced, close_timeout_ms),
    ] {
        let mut table = Table::new();
        let alice = table.connect("alice");
        if keeps {
            table.client_sends(alice, r#"{"type":"hello","payload":{"restore":true}}"#);
        }
        assert!(table.shard.close(alice, close));
        let due = table.shard.all_written(alice, table.now);
        let wake_ms = Some(table.now.mono_ms + timeout_ms);
        assert_eq!(due, Flushed { is_blocked: false, ends: false, wake_ms }, "{keeps} {close:?}");
        assert_eq!(table.shard.all_written(alice, table.now), Flushed::default(), "once");
    }
}

#[test]
fn a_listing_has_the_connections_it_asks_for() {
    let mut table = Table::new();
    let identity = |table: &mut Table, tenant: &str, user: &str| {
        let slot = table.connect(user);
        let (_, known) = table.shard.holder(slot).unwrap();
        let identity = Identity { tenant: TenantId::parse(tenant).unwrap(), ..known.clone() };
        table.shard.remove(slot);
        table.shard.open(Session::new(session(9), None), Opening::Authenticated(identity), table.now)
    };
    let alice = identity(&mut table, "acme", "alice");
    identity(&mut table, "acme", "bob");
    identity(&mut table, "other", "alice");
    table.shard.open(Session::new(session(10), None), Opening::AwaitHello, table.now);

    assert_eq!(table.lists(None, &[], 9), ["acme/alice", "acme/bob", "other/alice"], "all whose holder is known");
    assert_eq!(table.lists(None, &[], 2).len(), 2, "no more than it asks for");
    assert_eq!(table.lists(Some("acme"), &[], 9), ["acme/alice", "acme/bob"]);
    assert_eq!(table.lists(None, &["alice"], 9), ["acme/alice", "other/alice"]);
    assert_eq!(table.lists(Some("acme"), &["alice", "carol"], 9), ["acme/alice"]);

    table.received(alice);
    table.live(alice, "collection:42:ops", 0);
    let (answer, mut listed) = oneshot::channel();
    table.shard.list(Listing { tenant: None, users: Vec::new(), most: 1, answer });
    let rows = listed.try_recv().unwrap();
    let session = bind(session(9), &TenantId::parse("acme").unwrap(), &UserId::parse("alice").unwrap());
    let expected = serde_json::json!({
        "tenant": "acme", "user": "alice", "session_id": session.to_string(), "shard": 0, "subscriptions": 1,
        "waiting_bytes": 0, "rtt_ms": null,
    });
    assert_eq!(rows, [expected]);
}
