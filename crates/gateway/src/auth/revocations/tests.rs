//! What a revocation covers, and how it ends.

use serde_json::{Value, json};
use wire::{TenantId, Timestamp, UserId};

use super::*;
use crate::auth::signed::{NOW, claims, hs256, with};
use crate::auth::token::{Policy, TokenError, Verifier};

const LIFETIME_S: u64 = 30 * 24 * 60 * 60;

fn verifier() -> Verifier {
    let key = crate::auth::key::Key::hs256(None, crate::auth::signed::SECRET).unwrap();
    Verifier::new(vec![key], Policy::default(), wire::Families::default())
}

fn user(tenant: &str, user: &str) -> RevocationSubject {
    RevocationSubject::User(TenantId::parse(tenant).unwrap(), UserId::parse(user).unwrap())
}

fn revoked(subject: RevocationSubject, at_s: u64) -> Revocation {
    Revocation { subject, at: Some(Timestamp(at_s * 1_000)), until: Timestamp((at_s + LIFETIME_S) * 1_000) }
}

fn lifted(subject: RevocationSubject) -> Revocation {
    Revocation { subject, at: None, until: Timestamp((NOW + LIFETIME_S) * 1_000) }
}

#[test]
fn a_token_is_covered_by_its_jti_its_sid_and_its_user() {
    let token = RevocationSubject::Token("t-1".into());
    let session = RevocationSubject::Session("s-1".into());
    let of_idp = json!({"jti": "t-1", "sid": "s-1", "iat": NOW - 60});
    for (subject, more, is_covered) in [
        (token.clone(), of_idp.clone(), true),
        (token.clone(), json!({"jti": "t-2", "sid": "t-1"}), false),
        (token, json!({}), false),
        (session.clone(), of_idp.clone(), true),
        (session, json!({"jti": "s-1", "sid": "s-2"}), false),
        (user("default", "alice"), of_idp.clone(), true),
        (user("default", "alice"), json!({"iat": NOW}), true),
        (user("default", "alice"), json!({"iat": NOW + 1}), false),
        // Without an iat: exp is an hour ahead, and the longest lifetime is 30 days.
        (user("default", "alice"), json!({}), true),
        (user("default", "alice"), json!({"exp": NOW + LIFETIME_S}), true),
        (user("default", "alic"), of_idp.clone(), false),
        (user("acme", "alice"), of_idp.clone(), false),
        (user("acme", "alice"), json!({"tenant": "acme", "iat": NOW - 60}), true),
    ] {
        let verifier = verifier();
        let entry = revoked(subject.clone(), NOW);
        assert!(verifier.revocations().apply(&[entry], NOW * 1_000));
        let verified = verifier.verify(&hs256(&with(claims("alice"), more.clone())), NOW);
        let expected = if is_covered { Some(TokenError::Revoked) } else { None };
        assert_eq!(verified.err(), expected, "{subject:?} of {more}");
    }
}

#[test]
fn a_later_entry_replaces_an_earlier_one_and_each_ends() {
    let verifier = verifier();
    let token = |more: Value| hs256(&with(claims("alice"), more));
    let is_revoked = |more: Value| verifier.verify(&token(more), NOW) == Err(TokenError::Revoked);
    let apply = |entries: &[Revocation], now_s: u64| verifier.revocations().apply(entries, now_s * 1_000);
    apply(&[revoked(user("default", "alice"), NOW - 100)], NOW);
    assert!(is_revoked(json!({"iat": NOW - 100})) && !is_revoked(json!({"iat": NOW - 99})));
    apply(&[revoked(user("default", "alice"), NOW - 50)], NOW);
    assert!(is_revoked(json!({"iat": NOW - 50})) && !is_revoked(json!({"iat": NOW - 49})));
    assert!(!apply(&[lifted(user("default", "alice"))], NOW), "nothing is revoked that was not before");
    assert!(!is_revoked(json!({"iat": NOW - 100})));

    apply(&[revoked(RevocationSubject::Token("t-1".into()), NOW)], NOW);
    assert!(is_revoked(json!({"jti": "t-1"})));
    apply(&[], NOW + LIFETIME_S - 1);
    assert!(is_revoked(json!({"jti": "t-1"})));
    apply(&[], NOW + LIFETIME_S);
    assert!(!is_revoked(json!({"jti": "t-1"})), "its time is over");
    assert!(!apply(&[revoked(RevocationSubject::Token("t-1".into()), NOW)], NOW + LIFETIME_S), "it came too late");
}

#[test]
fn a_session_is_covered_by_its_id() {
    let revocations = Revocations::default();
    let (one, other) = (SessionId::from_random(1), SessionId::from_random(2));
    revocations.apply(&[revoked(RevocationSubject::Session(one.to_string()), NOW)], NOW * 1_000);
    assert!(revocations.cover_session(one) && !revocations.cover_session(other));
    let identity = verifier().verify(&hs256(&claims("alice")), NOW).unwrap();
    let connections = [(7, other), (8, one), (9, other)].map(|(slot, session)| (slot, session, identity.holder()));
    assert_eq!(revocations.select(connections.into_iter()), [8]);
}
