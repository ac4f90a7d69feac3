//! Valid tokens, and a collection of forged ones.

use std::task::{Context, Waker};

use serde_json::{Value, json};
use wire::TenantId;

use super::*;
use crate::auth::key::BadKey;
use crate::auth::mistaken_secret::{BYTE_ORDER_MARK, SecretMistake};
use crate::auth::signed::*;

const RSA_PKCS1: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_public_pkcs1.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_private.pem");
const RSA_1024: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_public_1024.pem");
const ED448_PUBLIC: &[u8] = include_bytes!("../../../tests/keys/test_only_ed448_public.pem");
const EC_384_PUBLIC: &[u8] = include_bytes!("../../../tests/keys/test_only_es384_public.pem");
const EC_384_PRIVATE: &[u8] = include_bytes!("../../../tests/keys/test_only_es384_private.pem");
const EC_OTHER: &[u8] = include_bytes!("../../../tests/keys/test_only_es256_other_private.pem");
const ED25519_OTHER: &[u8] = include_bytes!("../../../tests/keys/test_only_ed25519_other_private.pem");

const OTHER_SECRET: &[u8] = b"another secret of tests, long enough too";

fn verify_with(keys: Vec<Key>, token: &str) -> Result<Identity, TokenError> {
    Verifier::new(keys, Policy::default(), Families::default()).verify(token, NOW)
}

fn verify(token: &str) -> Result<Identity, TokenError> {
    verifier().verify(token, NOW)
}

fn hs(kid: Option<&str>, secret: &[u8]) -> Key {
    Key::hs256(kid.map(String::from), secret).unwrap()
}

fn rs(kid: Option<&str>) -> Key {
    Key::rs256(kid.map(String::from), RSA_PUBLIC).unwrap()
}

fn missing(claim: &str) -> TokenError {
    TokenError::MissingClaim(claim.into())
}

fn bad_claim(claim: &str, expected: &'static str) -> TokenError {
    TokenError::BadClaim(claim.into(), expected)
}

fn with_policy(policy: Policy) -> Verifier {
    Verifier::new(vec![hs(None, SECRET)], policy, Families::default())
}

#[test]
fn says_who_and_until_when() {
    let identity = verify(&hs256(&with(claims("alice"), json!({"tenant": "acme"})))).unwrap();
    assert_eq!((identity.tenant.as_str(), identity.user.as_str()), ("acme", "alice"));
    assert_eq!(identity.expires_at_unix_s, NOW + 3600);
    assert_eq!(verify(&hs256(&claims("alice"))).unwrap().tenant, TenantId::default());
}

#[test]
fn says_what_others_may_know_within_bounds() {
    let info_of =
        |info: Value| verify(&hs256(&with(claims("alice"), json!({"info": info})))).map(|identity| identity.info);
    assert_eq!(verify(&hs256(&claims("alice"))).unwrap().info, None);
    let info = info_of(json!({"name": "Alice A", "face": [1, 2]})).unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&info).unwrap(), json!({"name": "Alice A", "face": [1, 2]}));
    let long = |bytes: usize| info_of(json!({"n": "x".repeat(bytes - r#"{"n":""}"#.len())}));
    assert_eq!(long(512).unwrap().unwrap().len(), 512);
    assert_eq!(long(513), Err(TokenError::LongInfo));
    assert_eq!(info_of(json!("Alice")), Err(bad_claim("info", "an object")));
    assert_eq!(info_of(json!([])), Err(bad_claim("info", "an object")));
}

#[test]
fn grants_come_from_claims_or_else_from_defaults() {
    let families = Families::default();
    let policy =
        Policy { default_subscribe: GrantList::parse_defaults(&families, &["system:*"]).unwrap(), ..Policy::default() };
    let verifier = Verifier::new(vec![hs(None, SECRET)], policy, families.clone());
    let may_receive = |claims: &Value, channel: &str| {
        let identity = verifier.verify(&hs256(claims), NOW).unwrap();
        identity.may_subscribe(&families.parse(&identity.tenant, channel).unwrap())
    };
    assert!(may_receive(&claims("alice"), "system:news"));
    assert!(!may_receive(&claims("alice"), "collection:1"));
    let own = with(claims("alice"), json!({"subscribe": ["collection:1"]}));
    assert!(may_receive(&own, "collection:1"));
    assert!(!may_receive(&own, "system:news"), "a claim replaces the default");
    assert!(!may_receive(&with(claims("alice"), json!({"subscribe": []})), "system:news"));
    assert!(may_receive(&own, "user:alice:inbox"), "the user's own scope needs no grant");
}

#[test]
fn a_grant_ends_at_the_tenant() {
    let families = Families::default();
    let token = hs256(&with(claims("42"), json!({"tenant": "acme", "publish": ["collection:*"]})));
    let identity = verify(&token).unwrap();
    let (acme, other) = (identity.tenant.clone(), TenantId::parse("other").unwrap());
    for channel in ["user:42", "collection:1"] {
        assert!(identity.may_publish(&families.parse_channel(&acme, channel).unwrap()), "{channel}");
        assert!(
            !identity.may_publish(&families.parse_channel(&other, channel).unwrap()),
            "{channel} of another tenant"
        );
    }
    assert!(!identity.may_subscribe(&families.parse(&other, "user:42:*").unwrap()));
}

#[test]
fn times_are_held_against_the_clock_handed_in() {
    let policy = Policy { leeway_s: 10, ..Policy::default() };
    let verifier = Verifier::new(vec![hs(None, SECRET)], policy, Families::default());
    let token = hs256(&json!({"sub": "alice", "nbf": 1000, "exp": 2000}));
    for (now, expected) in [
        (0, Err(TokenError::NotYetValid)),
        (989, Err(TokenError::NotYetValid)),
        (990, Ok(2010)),
        (2009, Ok(2010)),
        (2010, Err(TokenError::Expired)),
        (u64::MAX, Err(TokenError::Expired)),
    ] {
        assert_eq!(verifier.verify(&token, now).map(|identity| identity.expires_at_unix_s), expected, "at {now}");
    }
    for exp in [json!(-1), json!(-1.5), json!(0)] {
        assert_eq!(verifier.verify(&hs256(&json!({"sub": "a", "exp": exp})), NOW), Err(TokenError::Expired));
    }
    assert!(verifier.verify(&hs256(&json!({"sub": "a", "exp": NOW as f64 + 0.5})), NOW).is_ok());
}

#[test]
fn a_lifetime_is_bounded_and_times_are_in_seconds() {
    const LONGEST: u64 = 86_400;
    let verifier = with_policy(Policy { leeway_s: 10, lifetime_s_max: LONGEST, ..Policy::default() });
    let long = Some(TokenError::LongLifetime(LONGEST));
    let unit = |claim| Some(TokenError::NotSeconds(claim));
    for (more, expected) in [
        (json!({"exp": NOW + LONGEST}), None),
        (json!({"exp": NOW + LONGEST + 10}), None),
        (json!({"exp": NOW + LONGEST + 11}), long.clone()),
        (json!({"exp": u64::MAX}), long.clone()),
        (json!({"exp": 1e308}), long.clone()),
        (json!({"iat": NOW, "exp": NOW + LONGEST}), None),
        // Issued for two days, of which one has passed.
        (json!({"iat": NOW - LONGEST, "exp": NOW + LONGEST}), long.clone()),
        (json!({"iat": NOW - LONGEST, "exp": NOW + 1}), long.clone()),
        (json!({"iat": NOW - LONGEST + 1, "exp": NOW + 1}), None),
        (json!({"exp": NOW * 1_000}), unit("exp")),
        (json!({"exp": (NOW + 3_600) * 1_000}), unit("exp")),
        (json!({"exp": (NOW as f64 + 0.5) * 1e3}), unit("exp")),
        (json!({"exp": (NOW + 3_600) * 1_000_000}), unit("exp")),
        (json!({"exp": (NOW + 3_600) * 1_000_000_000}), unit("exp")),
        (json!({"iat": NOW * 1_000}), unit("iat")),
        (json!({"nbf": NOW * 1_000}), unit("nbf")),
    ] {
        assert_eq!(verifier.verify(&hs256(&with(claims("a"), more.clone())), NOW).err(), expected, "{more}");
    }
}

#[test]
fn a_type_is_demanded_when_configured() {
    let typed = |typ: Value| hs256_with(&with(json!({"alg": "HS256"}), json!({"typ": typ})), &claims("alice"), SECRET);
    let verifier = with_policy(Policy { token_type: Some("at+jwt".into()), ..Policy::default() });
    for (typ, accepted) in [
        (json!("at+jwt"), true),
        (json!("AT+JWT"), true),
        (json!("application/at+jwt"), true),
        (json!("JWT"), false),
        (json!("at+jwtx"), false),
        (Value::Null, false),
    ] {
        let expected = if accepted { None } else { Some(TokenError::WrongType) };
        assert_eq!(verifier.verify(&typed(typ.clone()), NOW).err(), expected, "{typ}");
        assert_eq!(verify(&typed(typ)).err(), None, "any type is accepted unless one is configured");
    }
}

#[test]
fn users_may_come_from_another_claim_and_be_escaped() {
    let user_of = |user_claim: &str, escapes_users, more: Value| {
        let verifier = with_policy(Policy { user_claim: user_claim.into(), escapes_users, ..Policy::default() });
        verifier.verify(&hs256(&with(claims("alice"), more)), NOW).map(|identity| identity.user.to_string())
    };
    let name = "https://example.com/user";
    assert_eq!(user_of(name, false, json!({name: "bob"})), Ok("bob".into()));
    assert_eq!(user_of("user_id", false, json!({"user_id": 42})), Ok("42".into()));
    assert_eq!(
        user_of("user_id", false, json!({"user_id": 4.5})),
        Err(bad_claim("user_id", "a string or a whole number"))
    );
    assert_eq!(user_of("user_id", false, json!({})), Err(missing("user_id")));
    assert_eq!(
        user_of("email", false, json!({"email": "a@example.com", "sub": "f:0b1c:bob"})),
        Ok("a@example.com".into())
    );
    assert_eq!(user_of("sub", true, json!({"sub": "f:0b1c:bob"})), Ok("f~3A0b1c~3Abob".into()));
    assert_eq!(user_of("sub", true, json!({"sub": "a~b"})), Ok("a~7Eb".into()));
    let refused = user_of("sub", false, json!({"sub": "f:0b1c:bob"}));
    assert_eq!(refused, Err(TokenError::BadName("sub".into(), wire::BadName::Character(':'))));
    assert!(refused.unwrap_err().to_string().contains("auth.escape_users"), "it says what to do");
}

#[test]
fn a_secret_used_otherwise_than_it_is_written_is_explained() {
    let hexadecimal = b"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let raw: Vec<u8> = (0..2).flat_map(|_| (0..16_u8).map(|n| n * 0x11)).collect();
    let signed = |secret: &[u8]| hs256_with(&json!({"alg": "HS256"}), &claims("alice"), secret);
    let base64 = b"c2l4dGVlbiBieXRlcyBvZiBhIHNlY3JldA==";
    for (configured, used, expected) in [
        (SECRET, [SECRET, b"\n"].concat(), SecretMistake::LineEnd),
        (SECRET, [SECRET, b"\r\n"].concat(), SecretMistake::LineEnd),
        (SECRET, [BYTE_ORDER_MARK, SECRET].concat(), SecretMistake::ByteOrderMark),
        (hexadecimal, raw, SecretMistake::Decoded),
        (base64, b"sixteen bytes of a secret".to_vec(), SecretMistake::Decoded),
    ] {
        let verified = verify_with(vec![hs(None, configured)], &signed(&used));
        assert_eq!(verified, Err(TokenError::MistakenSecret(expected)));
    }
    assert_eq!(verify_with(vec![hs(None, SECRET)], &signed(OTHER_SECRET)), Err(TokenError::BadSignature));
}

#[test]
fn issuer_and_audience_are_demanded_when_configured() {
    let policy = Policy { issuer: Some("idp".into()), audience: Some("gw".into()), ..Policy::default() };
    let verifier = Verifier::new(vec![hs(None, SECRET)], policy, Families::default());
    for (more, expected) in [
        (json!({"iss": "idp", "aud": "gw"}), None),
        (json!({"iss": "idp", "aud": ["other", "gw"]}), None),
        (json!({"aud": "gw"}), Some(missing("iss"))),
        (json!({"iss": "idp"}), Some(missing("aud"))),
        (json!({"iss": "evil", "aud": "gw"}), Some(TokenError::WrongIssuer)),
        (json!({"iss": "idp", "aud": "other"}), Some(TokenError::WrongAudience)),
        (json!({"iss": "idp", "aud": []}), Some(TokenError::WrongAudience)),
        (json!({"iss": 7, "aud": "gw"}), Some(missing("iss"))),
    ] {
        let verified = verifier.verify(&hs256(&with(claims("alice"), more.clone())), NOW);
        assert_eq!(verified.err(), expected, "{more}");
    }
    // No audience is configured: a token for another audience is refused.
    assert_eq!(verify(&hs256(&with(claims("a"), json!({"aud": "x"})))), Err(TokenError::WrongAudience));
}

#[test]
fn keys_are_found_by_kid_and_have_one_algorithm() {
    let keys = || vec![hs(Some("old"), OTHER_SECRET), hs(Some("new"), SECRET), rs(Some("rsa")), rs(None)];
    let hs_token = |kid: Value, secret| {
        let header = with(json!({"alg": "HS256"}), json!({"kid": kid}));
        hs256_with(&header, &claims("alice"), secret)
    };
    for (token, expected) in [
        (hs_token(json!("new"), SECRET), None),
        (hs_token(json!("old"), OTHER_SECRET), None),
        (hs_token(json!("old"), SECRET), Some(TokenError::BadSignature)),
        (hs_token(Value::Null, SECRET), None), // Without a kid every HS256 key is tried.
        (hs_token(json!("rsa"), SECRET), Some(TokenError::WrongAlgorithm)),
        // An unknown kid may mean the key that is configured without a kid. That key is an RSA key.
        (hs_token(json!("../../etc/passwd"), SECRET), Some(TokenError::WrongAlgorithm)),
        (rs256(Some("rsa"), &claims("alice")), None),
        (rs256(Some("unheard of"), &claims("alice")), None),
        (rs256(None, &claims("alice")), None),
        (rs256(Some("new"), &claims("alice")), Some(TokenError::WrongAlgorithm)),
    ] {
        assert_eq!(verify_with(keys(), &token).err(), expected, "{token}");
    }
    let named = vec![hs(Some("new"), SECRET)];
    assert_eq!(verify_with(named, &hs_token(json!("none such"), SECRET)), Err(TokenError::UnknownKey));
    assert_eq!(verify_with(Vec::new(), &hs256(&claims("alice"))), Err(TokenError::UnknownKey));
}

#[test]
fn rs256_verifies_with_either_pem_and_refuses_another_key() {
    for pem in [RSA_PUBLIC, RSA_PKCS1] {
        let keys = || vec![Key::rs256(None, pem).unwrap()];
        assert_eq!(verify_with(keys(), &rs256(None, &claims("alice"))).unwrap().user.as_str(), "alice");
        assert_eq!(verify_with(keys(), &rs256_of_another_key(&claims("alice"))), Err(TokenError::BadSignature));
        assert_eq!(verify_with(keys(), &rs512(&claims("alice"))), Err(TokenError::WrongAlgorithm));
    }
}

#[test]
fn curves_verify_with_their_own_keys_alone() {
    let (es256, ed25519) =
        (Key::es256(Some("ec".into()), EC_PUBLIC).unwrap(), Key::eddsa(None, ED25519_PUBLIC).unwrap());
    let keys = || vec![es256.clone(), ed25519.clone(), rs(None)];
    let token = |algorithm, kid: Option<&str>, pem| curve(algorithm, kid, &claims("alice"), pem);
    for (token, expected) in [
        (token(Algorithm::ES256, None, EC_PRIVATE), None),
        (token(Algorithm::ES256, Some("ec"), EC_PRIVATE), None),
        (token(Algorithm::ES256, None, EC_OTHER), Some(TokenError::BadSignature)),
        (token(Algorithm::ES384, Some("ec"), EC_384_PRIVATE), Some(TokenError::WrongAlgorithm)),
        (token(Algorithm::EdDSA, None, ED25519_PRIVATE), None),
        (token(Algorithm::EdDSA, None, ED25519_OTHER), Some(TokenError::BadSignature)),
        (token(Algorithm::EdDSA, Some("ec"), ED25519_PRIVATE), Some(TokenError::WrongAlgorithm)),
    ] {
        assert_eq!(verify_with(keys(), &token).err(), expected, "{token}");
    }
    // The public key of a curve as the secret of an HMAC.
    let confused = hs256_with(&json!({"alg": "HS256"}), &claims("admin"), EC_PUBLIC);
    assert_eq!(verify_with(keys(), &confused), Err(TokenError::WrongAlgorithm));
    let changed = token(Algorithm::ES256, None, EC_PRIVATE);
    let mallory = hs256(&claims("mallory"));
    let parts: Vec<&str> = changed.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], mallory.split('.').nth(1).unwrap(), parts[2]);
    assert_eq!(verify_with(keys(), &swapped), Err(TokenError::BadSignature));
    // A signature of zeros (CVE-2022-21449).
    let zeros = format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86));
    assert_eq!(verify_with(keys(), &zeros), Err(TokenError::BadSignature));
}

#[test]
fn a_key_is_of_the_curve_of_its_algorithm() {
    let not_es256 = Some(BadKey::NotOnCurve("ES256", "P-256"));
    let not_eddsa = Some(BadKey::NotOnCurve("EdDSA", "Ed25519"));
    for pem in [
        RSA_PUBLIC,
        RSA_PKCS1,
        EC_384_PUBLIC,
        ED25519_PUBLIC,
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert_eq!(Key::es256(None, pem).err(), not_es256);
    }
    for pem in [RSA_PUBLIC, EC_PUBLIC, EC_384_PUBLIC, ED448_PUBLIC, b""] {
        assert_eq!(Key::eddsa(None, pem).err(), not_eddsa);
    }
    assert_eq!(Key::es256(None, EC_PRIVATE).err(), Some(BadKey::Private));
    assert_eq!(Key::eddsa(None, ED25519_PRIVATE).err(), Some(BadKey::Private));
}

#[test]
fn keys_that_are_weak_or_not_keys_are_refused() {
    assert_eq!(Key::hs256(None, &[b'x'; 31]).err(), Some(BadKey::ShortSecret(31)));
    assert_eq!(Key::rs256(None, RSA_1024).err(), Some(BadKey::ShortModulus(1024)));
    assert_eq!(Key::rs256(None, RSA_PRIVATE).err(), Some(BadKey::Private));
    for pem in [EC_PUBLIC, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(Key::rs256(None, pem).err(), Some(BadKey::NotRsaPublic));
    }
    assert!(!format!("{:?}", hs(None, SECRET)).contains(&format!("{SECRET:?}")), "debug output keeps secrets");
}

/// Known attacks on token verification.
#[test]
fn forged_tokens() {
    let good = hs256(&claims("alice"));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let mallory = hs256_with(&json!({"alg": "HS256"}), &claims("mallory"), OTHER_SECRET);
    let mallorys_claims = mallory.split('.').nth(1).unwrap();
    let header_with = |more| with(json!({"alg": "HS256"}), more);
    let signed_with = |more| hs256_with(&header_with(more), &claims("alice"), SECRET);
    let none = |alg: &str| {
        let token = hs256_with(&json!({"alg": alg}), &claims("alice"), SECRET);
        token.rsplit_once('.').unwrap().0.to_owned() + "."
    };
    let key = json!({"kty": "oct", "k": "YW5vdGhlciBzZWNyZXQ"});
    for (name, token, expected) in [
        ("claims swapped", format!("{header}.{mallorys_claims}.{signature}"), TokenError::BadSignature),
        ("another secret", mallory.clone(), TokenError::BadSignature),
        ("no signature", format!("{message}."), TokenError::BadSignature),
        ("signature cut short", good[..good.len() - 3].into(), TokenError::BadSignature),
        ("alg none", none("none"), TokenError::Malformed),
        ("alg None", none("None"), TokenError::Malformed),
        ("alg HS512, signed as HS256", none("HS512") + signature, TokenError::WrongAlgorithm),
        ("embedded jwk", signed_with(json!({"jwk": key})), TokenError::KeyInHeader),
        ("jku", signed_with(json!({"jku": "http://169.254.169.254/"})), TokenError::KeyInHeader),
        ("x5u", signed_with(json!({"x5u": "https://evil.example/"})), TokenError::KeyInHeader),
        ("x5c", signed_with(json!({"x5c": ["MIIB"]})), TokenError::KeyInHeader),
        ("crit", signed_with(json!({"crit": ["exp"]})), TokenError::Critical),
        ("two parts", message.into(), TokenError::Malformed),
        ("four parts", format!("{good}.x"), TokenError::Malformed),
        ("empty", String::new(), TokenError::Malformed),
        ("not base64", "a?.b?.c?".into(), TokenError::Malformed),
        ("padded base64", format!("{header}=.{mallorys_claims}.{signature}"), TokenError::Malformed),
        ("too long", format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)), TokenError::TooLong),
        ("alg twice", hs256_text(r#"{"alg":"HS256","alg":"none"}"#, "{}", SECRET), TokenError::Malformed),
    ] {
        assert_eq!(verify(&token), Err(expected), "{name}");
    }
    // A public key used as an HMAC secret, alone and together with a real HMAC key.
    let confused = hs256_with(&json!({"alg": "HS256"}), &claims("admin"), RSA_PUBLIC);
    assert_eq!(verify_with(vec![rs(None)], &confused), Err(TokenError::WrongAlgorithm));
    assert_eq!(verify_with(vec![rs(None), hs(None, SECRET)], &confused), Err(TokenError::BadSignature));
}

#[test]
fn claims_that_cannot_be_used() {
    for (more, expected) in [
        (json!({"exp": null}), missing("exp")),
        (json!({"sub": null}), missing("sub")),
        (json!({"exp": "1900000000"}), bad_claim("exp", "a number of seconds")),
        (json!({"nbf": "0"}), bad_claim("nbf", "a number of seconds")),
        (json!({"iat": true}), bad_claim("iat", "a number of seconds")),
        (json!({"sub": 7}), bad_claim("sub", "a string")),
        (json!({"tenant": 7}), bad_claim("tenant", "a string")),
        (json!({"subscribe": "system:*"}), bad_claim("subscribe", "an array of strings")),
        (json!({"publish": [1]}), bad_claim("publish", "an array of strings")),
        (json!({"sub": "a:b"}), TokenError::BadName("sub".into(), wire::BadName::Character(':'))),
        (json!({"sub": ""}), TokenError::BadName("sub".into(), wire::BadName::Empty)),
        (json!({"tenant": "a/b"}), TokenError::BadName("tenant".into(), wire::BadName::Character('/'))),
    ] {
        assert_eq!(verify(&hs256(&with(claims("alice"), more.clone()))), Err(expected), "{more}");
    }
    let grants = verify(&hs256(&with(claims("alice"), json!({"publish": ["collection:*:ops"]}))));
    assert!(matches!(grants, Err(TokenError::BadGrant("publish", _))), "{grants:?}");
    let twice = format!(r#"{{"sub":"alice","sub":"admin","exp":{}}}"#, NOW + 3600);
    assert_eq!(verify(&hs256_text(r#"{"alg":"HS256"}"#, &twice, SECRET)), Err(TokenError::BadClaims));
    assert_eq!(verify(&hs256_text(r#"{"alg":"HS256"}"#, "[]", SECRET)), Err(TokenError::BadClaims));
}

#[test]
fn an_expired_token_says_come_back_and_others_do_not() {
    use wire::{Close, ErrorCode};
    assert_eq!(
        (TokenError::Expired.code(), TokenError::Expired.close()),
        (ErrorCode::TokenExpired, Close::TokenExpired)
    );
    let bad = TokenError::BadSignature;
    assert_eq!((bad.code(), bad.close()), (ErrorCode::Unauthenticated, Close::Unauthenticated));
}

/// A key set that cannot be fetched keeps nobody waiting whom another key lets in, or lets nobody in.
#[tokio::test]
async fn only_tokens_that_a_fetch_can_help_wait_for_it() {
    let keys = vec![hs(None, SECRET), Key::es256(None, EC_PUBLIC).unwrap(), rs(Some("own"))];
    let verifier =
        Verifier::new(keys, Policy::default(), Families::default()).with_key_sets([key_set()], KEY_SET_TIMES);
    let alice = claims("alice");
    let of_kid = |alg: &str, secret| hs256_with(&json!({"alg": alg, "kid": "k"}), &alice, secret);
    for (token, waits) in [
        (of_kid("HS256", SECRET), false),
        (hs256(&alice), false),
        (curve(Algorithm::ES256, Some("k"), &alice, EC_PRIVATE), false),
        (curve(Algorithm::ES256, None, &alice, EC_PRIVATE), false),
        (curve(Algorithm::ES256, Some("k"), &with(alice.clone(), json!({"aud": "other"})), EC_PRIVATE), false),
        (rs256(Some("own"), &alice), false),
        (curve(Algorithm::ES256, Some("k"), &alice, EC_OTHER), true),
        (curve(Algorithm::EdDSA, Some("k"), &alice, ED25519_PRIVATE), true),
        (rs256(Some("k"), &alice), true),
    ] {
        let wait = std::pin::pin!(verifier.await_key(&token, NOW * 1_000));
        let polled = wait.poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled.is_pending(), waits, "{:?}", verifier.verify(&token, NOW));
    }
}
