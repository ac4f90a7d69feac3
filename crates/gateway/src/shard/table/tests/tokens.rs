//! Tokens that come in frames: the first one, and those that take its place.

use connection_registry::{Revocation, RevocationSubject};
use jsonwebtoken::Algorithm;
use message_router::{FamilyPolicy, OnIsolation};
use serde_json::json;

use super::*;
use crate::auth::signed::{EC_PRIVATE, KEY_SET_TIMES, NOW, claims, curve, hs256, key_set, verifier, with};

/// A table that takes signed tokens.
fn table() -> Table {
    let mut table = Table::new();
    table.shard.rules.verifier.replace(verifier());
    table.now.unix_ms = NOW * 1_000;
    table
}

fn token(user: &str, subscribe: &[&str]) -> String {
    hs256(&with(claims(user), json!({"subscribe": subscribe, "publish": ["collection:*"]})))
}

impl Table {
    /// The bytes that a client would read, as text where they are text.
    fn received_text(&mut self, slot: Slot) -> String {
        let outbox = &mut self.shard.connection(slot).expect("it is there").outbox;
        let mut text = String::new();
        while !outbox.is_empty() {
            text.push_str(&String::from_utf8_lossy(&outbox.take_entry()));
        }
        text
    }

    /// Connects on the path of this tenant and says hello with a token.
    fn greets(&mut self, path: Option<&str>, token: &str) -> (Slot, Vec<String>) {
        let path = path.map(|tenant| TenantId::parse(tenant).unwrap());
        let slot = self.shard.open(Session::new(SessionId::from_random(1), path), Opening::AwaitHello, self.now);
        self.client_sends(slot, &format!(r#"{{"type":"hello","payload":{{"token":"{token}"}}}}"#));
        (slot, self.received(slot))
    }

    fn refreshes(&mut self, slot: Slot, token: &str) -> Vec<String> {
        self.client_sends(slot, &format!(r#"{{"type":"refresh","payload":{{"token":"{token}"}}}}"#));
        self.received(slot)
    }
}

#[test]
fn a_token_in_hello_is_of_the_tenant_of_the_path() {
    let of_acme = hs256(&with(claims("alice"), json!({"tenant": "acme"})));
    for (path, welcome) in [(None, true), (Some("acme"), true), (Some("other"), false)] {
        let (_, received) = table().greets(path, &of_acme);
        match welcome {
            true => assert_eq!(received, ["welcome"], "{path:?}"),
            false => assert_eq!(received, ["error wrong_identity", "bye", "close 4501"], "{path:?}"),
        }
    }
}

#[test]
fn a_first_token_that_is_no_good_ends_the_connection() {
    let expired = hs256(&with(claims("alice"), json!({"exp": NOW - 1})));
    for (token, expected) in [
        (expired.as_str(), ["error token_expired", "bye", "close 4002"]),
        ("forged", ["error unauthenticated", "bye", "close 4500"]),
    ] {
        assert_eq!(table().greets(None, token).1, expected);
    }
}

/// The client may send the same token again a moment later.
#[test]
fn a_token_whose_key_is_not_known_yet_is_answered_with_a_time() {
    let mut table = table();
    table.shard.rules.verifier.replace(verifier().with_key_sets([key_set()], KEY_SET_TIMES));
    let unknown = curve(Algorithm::ES256, Some("new"), &claims("alice"), EC_PRIVATE);
    let pending = |text: &str| text.contains(r#""code":"unavailable""#) && text.contains(r#""retry_after_ms":2000"#);

    let slot = table.shard.open(Session::new(SessionId::from_random(1), None), Opening::AwaitHello, table.now);
    table.client_sends(slot, &format!(r#"{{"type":"hello","payload":{{"token":"{unknown}"}}}}"#));
    let text = table.received_text(slot);
    assert!(pending(&text) && text.contains(r#""code":1013"#), "{text}");

    let (alice, _) = table.greets(None, &token("alice", &["collection:*"]));
    for frame in ["refresh", "hello"] {
        table.client_sends(alice, &format!(r#"{{"type":"{frame}","payload":{{"token":"{unknown}"}}}}"#));
        let text = table.received_text(alice);
        assert!(pending(&text) && !text.contains("bye"), "its own token is still valid: {text}");
    }
    table.client_sends(alice, r#"{"type":"refresh","payload":{"token":"forged"}}"#);
    assert!(!table.received_text(alice).contains("retry_after_ms"), "a wait does not help");
}

#[test]
fn a_new_token_drops_exactly_the_subscriptions_that_it_does_not_grant() {
    let mut table = table();
    let (alice, _) = table.greets(None, &token("alice", &["collection:*"]));
    table.live(alice, "collection:42:ops", 0);
    table.live(alice, "collection:7:ops", 0);
    let received = table.refreshes(alice, &token("alice", &["collection:42:*"]));
    assert_eq!(received, ["refreshed", "error forbidden", "unsubscribed collection:7:ops"]);
    assert_eq!((table.publish("collection:42", "ops", 1), table.publish("collection:7", "ops", 1)), (1, 0));
    assert_eq!(table.received(alice), ["collection:42:ops@1"]);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:7:ops"}"#);
    assert_eq!(table.received(alice), ["error forbidden"]);
}

#[test]
fn a_subscription_that_is_taken_back_while_it_catches_up_delivers_nothing() {
    let mut table = table();
    let (alice, _) = table.greets(None, &token("alice", &["collection:*"]));
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:42:*","position":"7-3"}"#);
    let (joiner, _) = table.joiner();
    let received = table.refreshes(alice, &token("alice", &["collection:42"]));
    assert_eq!(received, ["refreshed", "error forbidden", "unsubscribed collection:42:*"]);
    table.shard.joined(joiner, page(Start::Resumed, vec![("ops", 4)], Some(4), false));
    table.publish("collection:42", "ops", 5);
    assert_eq!(table.received(alice), [""; 0]);
}

fn revoke(table: &mut Table, subject: RevocationSubject) -> Vec<Slot> {
    let (at, until) = (Some(Timestamp(NOW * 1_000)), Timestamp((NOW + 86_400) * 1_000));
    let verifier = table.shard.rules.verifier.get();
    let revocations = verifier.revocations();
    assert!(revocations.apply(&[Revocation { subject, at, until }], table.now.unix_ms));
    table.shard.close_revoked()
}

#[test]
fn what_is_revoked_is_closed_and_refused_and_the_rest_goes_on() {
    let mut table = table();
    let with_jti = |user: &str, jti: &str| hs256(&with(claims(user), json!({"jti": jti})));
    let (alice, _) = table.greets(None, &with_jti("alice", "t-1"));
    let (other, _) = table.greets(None, &with_jti("alice", "t-2"));
    let (bob, _) = table.greets(None, &with_jti("bob", "t-3"));
    let closed = revoke(&mut table, RevocationSubject::Token("t-1".into()));
    assert_eq!((closed, table.received(alice)), (vec![alice], strings(&["error revoked", "bye", "close 4506"])));
    assert_eq!(table.greets(None, &with_jti("alice", "t-1")).1, ["error revoked", "bye", "close 4506"]);
    // The old token is still good.
    assert_eq!(table.refreshes(other, &with_jti("alice", "t-1")), ["error revoked"]);
    assert_eq!(table.refreshes(other, &with_jti("alice", "t-4")), ["refreshed"]);

    let session = table.shard.connection(bob).unwrap().session.id();
    assert_eq!(revoke(&mut table, RevocationSubject::Session(session.to_string())), [bob]);
    assert_eq!(table.received(bob), ["error revoked", "bye", "close 4506"]);
    let token = with_jti("bob", "t-3");
    let hello =
        |more: &str| format!(r#"{{"type":"hello","payload":{{"token":"{token}","session_id":"{session}"{more}}}}}"#);
    for more in ["", r#","restore":true"#] {
        let slot = table.shard.open(Session::new(SessionId::from_random(7), None), Opening::AwaitHello, table.now);
        table.client_sends(slot, &hello(more));
        assert_eq!(table.received(slot), ["error revoked", "bye", "close 4506"], "it does not continue");
    }
    let again = table.shard.open(Session::new(SessionId::from_random(9), None), Opening::AwaitHello, table.now);
    table.client_sends(again, &format!(r#"{{"type":"hello","payload":{{"token":"{token}"}}}}"#));
    assert_eq!(table.received(again), ["welcome"], "the token may begin another session");
    table.client_sends(again, &hello(""));
    assert_eq!(table.received(again), ["refreshed", "error revoked", "bye", "close 4506"]);

    // A reload does not forget it.
    let verifier = table.shard.rules.verifier.clone();
    verifier.replace(crate::auth::signed::verifier().succeeding(&verifier.get()));
    assert_eq!(table.greets(None, &with_jti("alice", "t-1")).1, ["error revoked", "bye", "close 4506"]);

    // A token that was verified a moment before it was revoked, and is opened after.
    let identity = table.shard.rules.verifier.get().verify(&with_jti("carol", "t-5"), NOW).unwrap();
    let carol = RevocationSubject::User(identity.tenant.clone(), identity.user.clone());
    assert_eq!(revoke(&mut table, carol), [0; 0]);
    let session = Session::new(SessionId::from_random(8), None);
    let slot = table.shard.open(session, Opening::Authenticated(identity), table.now);
    assert_eq!(table.received(slot), ["error revoked", "bye", "close 4506"]);
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_new_token_that_is_not_taken_changes_nothing() {
    let mut table = table();
    let (alice, _) = table.greets(None, &token("alice", &["collection:*"]));
    table.live(alice, "collection:42:ops", 0);
    let of_acme = hs256(&with(claims("alice"), json!({"tenant": "acme"})));
    for (token, code) in [
        (token("bob", &[]), "wrong_identity"),
        (of_acme, "wrong_identity"),
        (hs256(&with(claims("alice"), json!({"exp": NOW - 1}))), "token_expired"),
    ] {
        assert_eq!(table.refreshes(alice, &token), [format!("error {code}")]);
    }
    assert_eq!(table.publish("collection:42", "ops", 1), 1);
    assert_eq!(table.received(alice), ["collection:42:ops@1"]);
}

#[test]
fn an_expired_token_leaves_a_grace_for_a_new_one() {
    let mut table = table();
    Arc::get_mut(&mut table.shard.rules).unwrap().limits.expiry_grace_ms = 10_000;
    let begun = table.now;
    let (alice, _) = table.greets(None, &token("alice", &["collection:*"]));
    table.live(alice, "collection:42:ops", 0);
    let at = |table: &mut Table, ms: u64| {
        table.now = Now { mono_ms: begun.mono_ms + ms, unix_ms: begun.unix_ms + ms };
        table.shard.peer_alive(alice);
        let woken = table.shard.wake(alice, table.now);
        (
            woken,
            table
                .received(alice)
                .into_iter()
                .filter(|frame| frame != "PING" && frame != "position")
                .collect::<Vec<_>>(),
        )
    };
    const HOUR_MS: u64 = 3_600_000;
    assert_eq!(at(&mut table, HOUR_MS - 1).1, [""; 0]);
    assert_eq!(at(&mut table, HOUR_MS).1, ["error token_expired"]);
    assert_eq!(at(&mut table, HOUR_MS + 5_000).1, [""; 0], "it is told once");
    for refused in [
        r#"{"type":"subscribe","channel":"collection:7"}"#,
        r#"{"type":"publish","channel":"collection:42","payload":1}"#,
        r#"{"type":"presence","channel":"collection:42"}"#,
        r#"{"type":"hello","payload":{"channels":[{"channel":"collection:7"}]}}"#,
    ] {
        table.client_sends(alice, refused);
        assert_eq!(table.received(alice), ["error token_expired"], "{refused}");
    }
    assert_eq!(table.publish("collection:42", "ops", 1), 1);
    assert_eq!(table.received(alice), ["collection:42:ops@1"], "it still receives");
    let later = hs256(&with(claims("alice"), json!({"exp": NOW + 7_200, "subscribe": ["collection:*"]})));
    assert_eq!(table.refreshes(alice, &later), ["refreshed"]);
    assert_eq!(at(&mut table, HOUR_MS + 10_000).1, [""; 0]);
    table.client_sends(alice, r#"{"type":"subscribe","channel":"collection:7"}"#);
    assert_eq!(table.received(alice), [""; 0], "it waits for the broker");
    assert_eq!(at(&mut table, 2 * HOUR_MS).1, ["error token_expired"]);
    assert_eq!(at(&mut table, 2 * HOUR_MS + 9_999).1, [""; 0]);
    assert_eq!(at(&mut table, 2 * HOUR_MS + 10_000).1, ["error token_expired", "bye", "close 4002"]);
}

#[test]
fn a_client_learns_when_its_token_expires() {
    let mut table = table();
    table.now.unix_ms += 500;
    let slot = table.shard.open(Session::new(SessionId::from_random(2), None), Opening::AwaitHello, table.now);
    let first = hs256(&with(claims("alice"), json!({"exp": NOW + 60})));
    table.client_sends(slot, &format!(r#"{{"type":"hello","payload":{{"token":"{first}"}}}}"#));
    assert!(table.received_text(slot).contains(r#""expires_in_ms":59500,"#));
    let second = hs256(&with(claims("alice"), json!({"exp": NOW + 120})));
    table.client_sends(slot, &format!(r#"{{"type":"refresh","payload":{{"token":"{second}"}}}}"#));
    assert!(table.received_text(slot).contains(r#"{"type":"refreshed","payload":{"expires_in_ms":119500}}"#));
}

#[test]
fn a_binary_message_is_taken_where_its_family_has_them() {
    let header = br#"{"type":"publish","channel":"collection:42:scan"}"#;
    let frame = [&[1, 0, header.len() as u8], &header[..], b"\xff\xfe"].concat();
    for binary in [false, true] {
        let mut table = table();
        let families = Families::default();
        let kept = FamilyPolicy::kept_for(1_000, 3, OnIsolation::ReadOnly);
        let policy = FamilyPolicy { binary, ..kept };
        let policies = Policies::new(families.iter().map(|(_, shape)| (shape.clone(), policy)).collect());
        Arc::get_mut(&mut table.shard.rules).unwrap().policies = policies;
        let (alice, _) = table.greets(None, &token("alice", &[]));
        table.shard.frame(alice, ClientFrame::parse_binary(&frame), table.now);
        match (binary, &table.requests()[..]) {
            (false, []) => assert_eq!(table.received(alice), ["error invalid_field"]),
            (true, [PumpRequest::Publish { .. }]) => assert_eq!(table.received(alice), [""; 0]),
            other => panic!("{other:?}"),
        }
    }
}
