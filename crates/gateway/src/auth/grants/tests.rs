//! What grants cover: a table of examples, and all combinations over a small alphabet.

use super::*;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn grants(subscribe: &[&str], publish: &[&str]) -> Grants {
    let families = Families::default();
    Grants::new(GrantList::parse(&families, subscribe).unwrap(), GrantList::parse(&families, publish).unwrap())
}

fn may_subscribe(granted: &str, wanted: &str) -> bool {
    let pattern = Families::default().parse(&TenantId::default(), wanted).unwrap();
    grants(&[granted], &[]).may_subscribe(&user("me"), &pattern)
}

fn may_publish(granted: &str, wanted: &str) -> bool {
    let channel = Families::default().parse_channel(&TenantId::default(), wanted).unwrap();
    grants(&[], &[granted]).may_publish(&user("me"), &channel)
}

#[test]
fn a_grant_covers_what_a_subscription_of_the_same_text_hears() {
    for (granted, wanted, yes) in [
        ("collection:*", "collection:42", true),
        ("collection:*", "collection:42:*", true),
        ("collection:*", "collection:42:ops:cursor", true),
        ("collection:*", "system:news", false),
        ("collection:42", "collection:42", true),
        ("collection:42", "collection:42:*", false),
        ("collection:42", "collection:42:ops", false),
        ("collection:42", "collection:421", false),
        ("collection:42:*", "collection:42", false),
        ("collection:42:*", "collection:42:ops", true),
        ("collection:42:*", "collection:42:*", true),
        ("collection:42:*", "collection:42:ops:*", true),
        ("collection:42:*", "collection:43:*", false),
        ("collection:42:ops", "collection:42:ops", true),
        ("collection:42:ops", "collection:42:*", false),
        ("collection:42:ops", "collection:42:ops:*", false),
        ("collection:42:ops:*", "collection:42:ops", false),
        ("collection:42:ops:*", "collection:42:ops:cursor", true),
        ("collection:42:ops:*", "collection:42:ops:cursor:*", true),
        ("collection:42:ops:*", "collection:42:opsx:cursor", false),
        ("collection:42:ops:*", "collection:42:*", false),
        ("system:*", "system:news", true),
        ("system:*", "system:*", true),
        ("system:*", "system", false),
        ("system", "system", true),
        ("system", "system:news", false),
    ] {
        assert_eq!(may_subscribe(granted, wanted), yes, "{granted} for a subscription of {wanted}");
    }
}

#[test]
fn to_hear_is_not_to_say() {
    assert!(may_publish("collection:42:*", "collection:42:ops"));
    let channel = Families::default().parse_channel(&TenantId::default(), "collection:42:ops").unwrap();
    assert!(!grants(&["collection:*"], &[]).may_publish(&user("me"), &channel));
    let pattern = Families::default().parse(&TenantId::default(), "collection:42:ops").unwrap();
    assert!(!grants(&[], &["collection:*"]).may_subscribe(&user("me"), &pattern));
}

#[test]
fn a_user_owns_a_scope_and_nothing_beside_it() {
    let (families, tenant, nothing) = (Families::default(), TenantId::default(), grants(&[], &[]));
    for own in ["user:alice", "user:alice:*", "user:alice:inbox", "user:alice:inbox:*"] {
        assert!(nothing.may_subscribe(&user("alice"), &families.parse(&tenant, own).unwrap()), "{own}");
    }
    for other in ["user:alic", "user:alice2:*", "user:bob", "collection:alice", "system:user:alice"] {
        assert!(!nothing.may_subscribe(&user("alice"), &families.parse(&tenant, other).unwrap()), "{other}");
    }
    let channel = |text| families.parse_channel(&tenant, text).unwrap();
    assert!(nothing.may_publish(&user("alice"), &channel("user:alice:inbox")));
    assert!(!nothing.may_publish(&user("alice"), &channel("user:bob:inbox")));
    // A family whose name only begins with `user`.
    let lookalike = Families::new(vec![wire::FamilyShape { name: "useralice".into(), keyed: false }]);
    assert!(!nothing.may_subscribe(&user("alice"), &lookalike.parse(&tenant, "useralice").unwrap()));
    // A token may grant the channels of another user; a default grant may not.
    assert!(may_subscribe("user:bob:inbox", "user:bob:inbox"));
}

#[test]
fn defaults_never_open_users() {
    let families = Families::default();
    for text in ["user:*", "user:bob", "user:bob:*"] {
        let refused = GrantList::parse_defaults(&families, &[text]);
        assert_eq!(refused, Err(BadGrant::DefaultForUsers(text.into())));
    }
    assert!(GrantList::parse_defaults(&families, &["system:*", "collection:*"]).is_ok());
    assert!(GrantList::parse_defaults(&families, &["systme:*"]).is_err(), "a typo in the configuration");
}

#[test]
fn what_is_no_grant_is_refused_and_an_unknown_family_grants_nothing() {
    let families = Families::default();
    for text in ["*", "collection:*:ops", "collection:4*", "collection", "system:", "", "collection:42:**"] {
        assert!(matches!(GrantList::parse(&families, &[text]), Err(BadGrant::Grammar(..))), "{text:?}");
    }
    let unknown = grants(&["room:*", "system", "room:7"], &["hall"]);
    assert_eq!(unknown.unknown().collect::<Vec<_>>(), ["room:*", "room:7", "hall"]);
    assert!(!unknown.may_subscribe(&user("me"), &families.parse(&TenantId::default(), "collection:7").unwrap()));
}

#[test]
fn a_refusal_lists_what_is_granted_and_names_a_near_miss() {
    let families = Families::default();
    let subscribe = |granted: &[&str], wanted: &str| {
        let pattern = families.parse(&TenantId::default(), wanted).unwrap();
        grants(granted, &[]).why_not_subscribe(&families, &user("me"), &pattern)
    };
    for (granted, wanted, expected) in [
        (&[][..], "collection:42", "it grants user:me, user:me:*"),
        (&["collection:7", "system:*"], "collection:42", "it grants user:me, user:me:*, collection:7, system:*"),
        (&["collection:42:*"], "collection:42", "; collection:42:* does not include collection:42 itself"),
        (
            &["collection:42:ops:*"],
            "collection:42:ops",
            "; collection:42:ops:* does not include collection:42:ops itself",
        ),
        (&["system:*"], "system", "; system:* does not include system itself"),
        (
            &["collection:42"],
            "collection:42:*",
            "; collection:42 does not include the topics below it, collection:42:* does",
        ),
        (
            &["collection:42:ops"],
            "collection:42:ops:cursor",
            "; collection:42:ops does not include the topics below it, collection:42:ops:* does",
        ),
        (&["room:*"], "collection:42", "room:* (of a family that this gateway does not know)"),
    ] {
        let text = subscribe(granted, wanted);
        assert!(text.starts_with("the token does not grant this channel; it grants user:me, user:me:*"), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }
    let many: Vec<String> = (0..40).map(|number| format!("collection:{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(subscribe(&many, "system").ends_with("collection:5 and 34 more"), "{}", subscribe(&many, "system"));
    let channel = families.parse_channel(&TenantId::default(), "collection:42").unwrap();
    let text = grants(&["collection:42"], &["collection:42:*"]).why_not_publish(&families, &user("me"), &channel);
    assert_eq!(
        text,
        "the token does not grant publishing to this channel; it grants user:me, user:me:*, collection:42:*; \
         collection:42:* does not include collection:42 itself"
    );
}

/// Returns all topics of up to three segments over two names, with the empty topic.
fn topics() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = vec![String::new()];
    for _ in 0..3 {
        let longer =
            |head: &String| ["a", "ab"].map(|s| if head.is_empty() { s.into() } else { format!("{head}:{s}") });
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// The definition: a pattern may be subscribed to if and only if every topic that it matches is granted. Patterns are
/// up to two segments deep and topics up to three, so that each wildcard matches something.
#[test]
fn a_wildcard_is_granted_exactly_when_all_it_hears_is() {
    let topics = topics();
    let heads: Vec<&String> = topics.iter().filter(|topic| topic.split(':').count() <= 2).collect();
    let mut filters: Vec<Filter> = topics.iter().map(|topic| Filter::Exact(topic.as_str().into())).collect();
    filters.extend(heads.iter().map(|head| Filter::Below(head.as_str().into())));
    let (mut yes, mut no) = (0, 0);
    for granted in &filters {
        for wanted in &filters {
            let received = topics.iter().filter(|topic| wanted.matches(topic));
            let all_granted = received.clone().count() > 0 && received.clone().all(|topic| granted.matches(topic));
            // A single deep topic is not all that a wildcard matches, because names are not limited to this alphabet.
            let expected = all_granted && !matches!((granted, wanted), (Filter::Exact(_), Filter::Below(_)));
            assert_eq!(covers(granted, wanted), expected, "{granted:?} for {wanted:?}");
            *(if expected { &mut yes } else { &mut no }) += 1;
        }
    }
    assert!(yes > 40 && no > 40, "both answers are exercised: {yes} yes, {no} no");
}
