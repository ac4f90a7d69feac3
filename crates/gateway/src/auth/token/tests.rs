//! Valid tokens, and a collection of forged ones.

use serde_json::{Value, json};
use wire::TenantId;

use super::*;
use crate::auth::signed::*;

const RSA_PKCS1: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_public_pkcs1.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_private.pem");
const RSA_1024: &[u8] = include_bytes!("../../../tests/keys/test_only_rs256_public_1024.pem");
const EC_PUBLIC: &[u8] = include_bytes!("../../../tests/keys/test_only_es256_public.pem");

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
    assert_eq!(info_of(json!("Alice")), Err(TokenError::BadClaims));
    assert_eq!(info_of(json!([])), Err(TokenError::BadClaims));
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
    let forever = verifier.verify(&hs256(&json!({"sub": "a", "exp": u64::MAX})), NOW);
    assert_eq!(forever.unwrap().expires_at_unix_s, u64::MAX);
    assert!(verifier.verify(&hs256(&json!({"sub": "a", "exp": NOW as f64 + 0.5})), NOW).is_ok());
}

#[test]
fn issuer_and_audience_are_demanded_when_configured() {
    let policy = Policy { issuer: Some("idp".into()), audience: Some("gw".into()), ..Policy::default() };
    let verifier = Verifier::new(vec![hs(None, SECRET)], policy, Families::default());
    for (more, expected) in [
        (json!({"iss": "idp", "aud": "gw"}), None),
        (json!({"iss": "idp", "aud": ["other", "gw"]}), None),
        (json!({"aud": "gw"}), Some(TokenError::MissingClaim("iss"))),
        (json!({"iss": "idp"}), Some(TokenError::MissingClaim("aud"))),
        (json!({"iss": "evil", "aud": "gw"}), Some(TokenError::WrongIssuer)),
        (json!({"iss": "idp", "aud": "other"}), Some(TokenError::WrongAudience)),
        (json!({"iss": "idp", "aud": []}), Some(TokenError::WrongAudience)),
        (json!({"iss": 7, "aud": "gw"}), Some(TokenError::MissingClaim("iss"))),
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
        (json!({"exp": null}), TokenError::MissingClaim("exp")),
        (json!({"sub": null}), TokenError::MissingClaim("sub")),
        (json!({"exp": "1900000000"}), TokenError::BadClaims),
        (json!({"nbf": "0"}), TokenError::BadClaims),
        (json!({"sub": 7}), TokenError::BadClaims),
        (json!({"subscribe": "system:*"}), TokenError::BadClaims),
        (json!({"publish": [1]}), TokenError::BadClaims),
        (json!({"sub": "a:b"}), TokenError::BadName("sub", wire::BadName::Character(':'))),
        (json!({"sub": ""}), TokenError::BadName("sub", wire::BadName::Empty)),
        (json!({"tenant": "a/b"}), TokenError::BadName("tenant", wire::BadName::Character('/'))),
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
    assert_eq!(
        (TokenError::Expired.code(), TokenError::Expired.close()),
        (ErrorCode::TokenExpired, Close::TokenExpired)
    );
    let bad = TokenError::BadSignature;
    assert_eq!((bad.code(), bad.close()), (ErrorCode::Unauthenticated, Close::Unauthenticated));
}
