//! When a key set is fetched, and what it knows in between.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::json;
use wire::Families;

use super::*;
use crate::auth::signed::{
    EC_PRIVATE, ED25519_PRIVATE, NOW, SECRET, claims, curve, hs256, jwk_of, key_set, rs256, with,
};
use crate::auth::token::{Policy, TokenError, Verifier};

const NOW_MS: u64 = NOW * 1_000;
const INTERVAL_MS: u64 = 300_000;
const STALE_MS: u64 = 3_600_000;
const TIMES: KeySetTimes =
    KeySetTimes { interval: Duration::from_millis(INTERVAL_MS), stale_max: Duration::from_millis(STALE_MS) };

fn set() -> KeySet {
    KeySet::new(config(None), TIMES)
}

fn config(issuer: Option<&str>) -> KeySetConfig {
    KeySetConfig { issuer: issuer.map(str::to_owned), ..key_set() }
}

/// The keys of a set with an EC key of this kid.
fn published(kid: &str) -> Arc<[Key]> {
    keys_of(&json!({ "keys": [jwk_of("ES256", kid)] }))
}

fn keys_of(set: &Value) -> Arc<[Key]> {
    parse(set.to_string().as_bytes()).unwrap().keys
}

fn is_known(set: &KeySet, kid: &str, now_ms: u64) -> Option<bool> {
    match set.find(Some(kid), now_ms) {
        KeyLookup::Named(_) => Some(true),
        KeyLookup::Possible(_) => panic!("each key of these sets has a kid"),
        KeyLookup::Missing => {
            if set.request(Some(kid), now_ms) {
                None
            } else {
                Some(false)
            }
        }
    }
}

#[test]
fn a_set_is_fetched_at_once_and_then_ahead_of_its_end() {
    let set = set();
    assert_eq!(set.due_ms(), 0);
    assert_eq!(is_known(&set, "a", NOW_MS), None, "nothing is known before the first fetch");
    set.begin(NOW_MS);
    set.succeeded(published("a"), None, NOW_MS);
    assert_eq!(set.due_ms(), NOW_MS + INTERVAL_MS / 5 * 4);
    for (max_age_s, kept_ms) in [(0, 60_000), (100, 100_000), (86_400, INTERVAL_MS)] {
        set.succeeded(published("a"), Some(Duration::from_secs(max_age_s)), NOW_MS);
        assert_eq!(set.due_ms(), NOW_MS + kept_ms / 5 * 4, "max-age={max_age_s}");
    }
    assert_eq!(is_known(&set, "a", NOW_MS), Some(true));
}

#[test]
fn an_unknown_kid_is_fetched_once_and_then_refused_for_a_while() {
    let set = set();
    set.begin(NOW_MS);
    set.succeeded(published("a"), None, NOW_MS);
    assert_eq!(is_known(&set, "b", NOW_MS + 1), None);
    assert_eq!(set.due_ms(), NOW_MS + COOLDOWN_MS, "not at once: a fetch has just begun");
    let later_ms = NOW_MS + COOLDOWN_MS;
    set.begin(later_ms);
    assert_eq!(is_known(&set, "c", later_ms), None, "asked for during the fetch");
    set.succeeded(published("b"), None, later_ms);
    assert_eq!((is_known(&set, "b", later_ms), is_known(&set, "a", later_ms)), (Some(true), None), "the keys rotate");
    assert_eq!(is_known(&set, "c", later_ms), Some(false));
    assert_eq!(is_known(&set, "c", later_ms + ABSENT_MS - 1), Some(false));
    assert_eq!(is_known(&set, "c", later_ms + ABSENT_MS), None, "it may have been published since");
}

#[test]
fn a_flood_of_invented_kids_costs_one_fetch_in_ten_seconds_and_bounded_memory() {
    let set = set();
    let (mut now_ms, mut fetches) = (NOW_MS, 0);
    for number in 0..60_000 {
        if set.due_ms() <= now_ms {
            set.begin(now_ms);
            set.succeeded(published("a"), None, now_ms);
            fetches += 1;
        }
        let kid = format!("invented-{number}");
        assert_ne!(is_known(&set, &kid, now_ms), Some(true));
        assert_eq!(is_known(&set, "a", now_ms), if fetches == 0 { None } else { Some(true) });
        now_ms += 1;
    }
    assert_eq!(fetches, 6, "in a minute");
    let state = set.state();
    assert!(state.wanted.len() <= KIDS_MAX && state.absent.len() <= KIDS_MAX);
    drop(state);
    assert_eq!(is_known(&set, &"k".repeat(KID_BYTES_MAX + 1), now_ms), Some(false), "nobody has such a kid");
}

#[test]
fn after_failures_keys_are_used_for_a_bounded_time() {
    let set = set();
    set.begin(NOW_MS);
    set.succeeded(published("a"), None, NOW_MS);
    let mut due = Vec::new();
    let mut now_ms = set.due_ms();
    for n in 0..9 {
        set.begin(now_ms);
        assert_eq!(set.failed(now_ms), n == 0, "it is said once");
        due.push(set.due_ms() - now_ms);
        now_ms = set.due_ms();
    }
    assert_eq!(due, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]);
    assert_eq!(is_known(&set, "a", NOW_MS + STALE_MS - 1), Some(true));
    assert_eq!(is_known(&set, "a", NOW_MS + STALE_MS), None, "too old to be trusted, and not gone for good");
    set.succeeded(published("a"), None, NOW_MS + STALE_MS);
    assert_eq!(is_known(&set, "a", NOW_MS + STALE_MS), Some(true));
    assert!(set.failed(NOW_MS + STALE_MS), "it is said again");
}

#[tokio::test]
async fn who_needs_a_key_waits_for_the_fetch_that_may_bring_it() {
    let set = Arc::new(set());
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let set = Arc::clone(&set);
            tokio::spawn(async move { set.until_fetched(NOW_MS).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    set.begin(NOW_MS);
    set.succeeded(published("a"), None, NOW_MS);
    for waiting in waiting {
        waiting.await.unwrap();
    }
    // No fetch is near, so waiting would not help.
    assert_eq!(is_known(&set, "b", NOW_MS + 1), None);
    set.until_fetched(NOW_MS + 1).await;
}

#[test]
fn a_set_has_keys_for_tokens_and_others() {
    let keys = json!({ "keys": [
        jwk_of("RS256", "rsa"),
        jwk_of("ES256", "ec"),
        jwk_of("EdDSA", "ed"),
        with(jwk_of("RS256", "encryption"), json!({ "use": "enc" })),
        with(jwk_of("RS256", "pss"), json!({ "alg": "PS256" })),
        with(jwk_of("ES256", "curve"), json!({ "crv": "P-384" })),
        with(jwk_of("ES256", "point"), json!({ "x": URL_SAFE_NO_PAD.encode([1; 32]) })),
        with(jwk_of("EdDSA", "short"), json!({ "x": "AAAA" })),
        with(jwk_of("RS256", "weak"), json!({ "n": URL_SAFE_NO_PAD.encode([0xff; 128]) })),
        with(jwk_of("RS256", "long"), json!({ "n": URL_SAFE_NO_PAD.encode([0xff; 1024]) })),
        { "kty": "oct", "kid": "secret", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) },
        { "kty": "later", "kid": "later" },
        "not a key",
    ]});
    let parsed = parse(keys.to_string().as_bytes()).unwrap();
    let kids: Vec<_> = parsed.keys.iter().map(|key| key.kid().unwrap()).collect();
    assert_eq!((kids, parsed.ignored), (vec!["rsa", "ec", "ed"], 10));
    assert_eq!(keys_of(&json!({ "keys": [] })).len(), 0);
    for wrong in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn tokens_are_verified_with_the_keys_of_their_issuer() {
    let fixed = vec![Key::hs256(Some("own".into()), SECRET).unwrap()];
    let sets = [config(Some("https://one.example")), config(Some("https://two.example"))];
    let verifier = Verifier::new(fixed, Policy::default(), Families::default()).with_key_sets(sets, TIMES);
    let verify = |token: &str| verifier.verify(token, NOW).map(|identity| identity.user.to_string());
    let of = |issuer: &str| with(claims("alice"), json!({ "iss": issuer }));
    let es256 = |kid, issuer| curve(Algorithm::ES256, Some(kid), &of(issuer), EC_PRIVATE);
    let ed25519 = |kid, issuer| curve(Algorithm::EdDSA, Some(kid), &of(issuer), ED25519_PRIVATE);
    let own = crate::auth::signed::hs256_with(&json!({"alg": "HS256", "kid": "own"}), &claims("alice"), SECRET);
    let (one, two) = ("https://one.example", "https://two.example");
    assert_eq!(verify(&own), Ok("alice".into()), "configured keys need no set");
    assert_eq!(verify(&es256("k", one)), Err(TokenError::KeysPending));
    let [first, second] = verifier.key_sets().collect::<Vec<_>>()[..] else { panic!("two sets") };
    // Both issuers call their key k.
    first.succeeded(keys_of(&json!({ "keys": [jwk_of("ES256", "k")] })), None, NOW_MS);
    assert_eq!(verify(&es256("k", one)), Ok("alice".into()), "the other set is not needed");
    second.succeeded(keys_of(&json!({ "keys": [jwk_of("EdDSA", "k"), jwk_of("RS256", "r")] })), None, NOW_MS);
    assert_eq!(verify(&ed25519("k", two)), Ok("alice".into()));
    assert_eq!(verify(&es256("k", two)), Err(TokenError::WrongIssuer), "a key is its issuer's alone");
    assert_eq!(verify(&ed25519("k", one)), Err(TokenError::WrongIssuer));
    assert_eq!(verify(&rs256(Some("r"), &of(two))), Ok("alice".into()));
    assert_eq!(
        verify(&es256("own", one)),
        Err(TokenError::WrongAlgorithm),
        "a configured kid is not looked for in sets"
    );
    assert_eq!(verify(&hs256(&of(one))), Ok("alice".into()), "without a kid, every key is tried");
    assert_eq!(verify(&es256("invented", one)), Err(TokenError::KeysPending));
    for set in [first, second] {
        set.succeeded(published("k"), None, NOW_MS);
    }
    assert_eq!(verify(&es256("invented", one)), Err(TokenError::UnknownKey));
}

/// A rotation is noticed by tokens that no present key verifies, also where neither keys nor tokens have a `kid`.
#[tokio::test]
async fn the_rotation_of_a_key_without_a_kid_is_noticed() {
    let unnamed = |algorithm| keys_of(&json!({ "keys": [with(jwk_of(algorithm, ""), json!({ "kid": null }))] }));
    let pem = include_bytes!("../../../tests/keys/test_only_es256_other_private.pem");
    for kid in [None, Some("a")] {
        let fixed = vec![Key::hs256(None, SECRET).unwrap()];
        let verifier = Verifier::new(fixed, Policy::default(), Families::default());
        let verifier = Arc::new(verifier.with_key_sets([config(None)], TIMES));
        let verify = |token: &str, at_ms: u64| verifier.verify(token, at_ms / 1_000).map(drop);
        let set = verifier.key_sets().next().unwrap();
        let (old, new) = ("EdDSA", "ES256");
        let of_old = curve(Algorithm::EdDSA, kid, &claims("alice"), ED25519_PRIVATE);
        let of_new = curve(Algorithm::ES256, kid, &claims("alice"), EC_PRIVATE);
        let forged = curve(Algorithm::ES256, kid, &claims("alice"), pem);
        set.begin(NOW_MS);
        set.succeeded(unnamed(old), None, NOW_MS);
        let fetch_ms = set.due_ms();
        assert_eq!(verify(&of_old, NOW_MS), Ok(()));
        let forged_hs256 = crate::auth::signed::hs256_with(&json!({"alg": "HS256"}), &claims("alice"), b"another");
        assert_eq!(verify(&forged_hs256, NOW_MS), Err(TokenError::BadSignature), "no set has a shared secret");
        verifier.await_key(&of_old, NOW_MS).await;
        assert_eq!(set.due_ms(), fetch_ms, "what is verified or cannot be asks for nothing");

        assert_eq!(verify(&of_new, NOW_MS), Err(TokenError::KeysPending), "{kid:?}");
        let mut now_ms = NOW_MS + COOLDOWN_MS;
        assert_eq!(set.due_ms(), now_ms);
        let waiting = tokio::spawn({
            let (verifier, token) = (Arc::clone(&verifier), of_new.clone());
            async move { verifier.await_key(&token, now_ms).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a fetch is near");
        set.begin(now_ms);
        set.succeeded(unnamed(new), None, now_ms);
        waiting.await.unwrap();
        assert_eq!((verify(&of_new, now_ms), verify(&of_old, now_ms).is_err()), (Ok(()), true), "{kid:?}");

        // Forged tokens cause no more fetches than invented kids.
        let mut fetches = 0;
        for _ in 0..120 {
            now_ms += 1_000;
            let refused = verify(&forged, now_ms).unwrap_err();
            assert!(matches!(refused, TokenError::KeysPending | TokenError::BadSignature), "{refused:?}");
            assert_eq!(verify(&of_new, now_ms), Ok(()));
            if set.due_ms() <= now_ms {
                set.begin(now_ms);
                set.succeeded(unnamed(new), None, now_ms);
                fetches += 1;
            }
        }
        assert_eq!(fetches, 2, "in two minutes");
        assert_eq!(verify(&forged, now_ms), Err(TokenError::BadSignature));
    }
}

/// What the operator changed, and whether the keys are still known then.
#[test]
fn a_reload_keeps_the_keys_of_a_set_while_its_address_stays() {
    type Change = fn(&mut KeySetConfig, &mut KeySetTimes);
    let changes: [(Change, bool); 6] = [
        (|_, _| {}, true),
        (|_, times| times.interval = Duration::from_secs(60), true),
        (|_, times| times.stale_max *= 2, true),
        (|config, _| config.ca = Some(b"another".to_vec()), true),
        (|config, _| config.audience = Some("tidegate".into()), true),
        (|config, _| config.url.push_str("/others"), false),
    ];
    for (n, (change, is_kept)) in changes.into_iter().enumerate() {
        let verifier = || Verifier::new(Vec::new(), Policy::default(), Families::default());
        let before = verifier().with_key_sets([config(None)], TIMES);
        let set = before.key_sets().next().unwrap();
        set.begin(NOW_MS);
        set.succeeded(published("a"), None, NOW_MS);
        let (mut config, mut times) = (config(None), TIMES);
        change(&mut config, &mut times);
        let after = verifier().with_key_sets([config], times).succeeding(&before);
        let renewed = after.key_sets().next().unwrap();
        assert_eq!(is_known(renewed, "a", NOW_MS + 1) == Some(true), is_kept, "{n}");
        assert!(Arc::ptr_eq(renewed, set) || renewed.due_ms() <= NOW_MS, "fetched in the new way: {n}");
        // Their age counts from their fetch, as before.
        assert_eq!(is_known(renewed, "a", NOW_MS + 2 * STALE_MS), None, "{n}");
    }
}
