//! Valid and invalid tokens for tests. The keys under `tests/keys` are published and worthless.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use wire::Families;

use crate::auth::key::Key;
use crate::auth::key_set::{KeySetConfig, KeySetTimes};
use crate::auth::token::{Policy, Verifier};

/// The time of the tests, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SECRET: &[u8] = b"a secret of tests, 32 bytes long or more";
pub(crate) const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/keys/test_only_rs256_public.pem");
pub(crate) const EC_PUBLIC: &[u8] = include_bytes!("../../tests/keys/test_only_es256_public.pem");
pub(crate) const EC_PRIVATE: &[u8] = include_bytes!("../../tests/keys/test_only_es256_private.pem");
pub(crate) const ED25519_PUBLIC: &[u8] = include_bytes!("../../tests/keys/test_only_ed25519_public.pem");
pub(crate) const ED25519_PRIVATE: &[u8] = include_bytes!("../../tests/keys/test_only_ed25519_private.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../../tests/keys/test_only_rs256_private.pem");
const RSA_OTHER: &[u8] = include_bytes!("../../tests/keys/test_only_rs256_other_private.pem");

/// Returns a verifier that accepts the tokens of [`hs256`].
pub(crate) fn verifier() -> Verifier {
    // Some tests verify by the clock of the machine, which is not at NOW.
    let policy = Policy { lifetime_s_max: u64::MAX, ..Policy::default() };
    Verifier::new(vec![Key::hs256(None, SECRET).unwrap()], policy, Families::default())
}

/// A key set at an address that nobody fetches in these tests.
pub(crate) fn key_set() -> KeySetConfig {
    let url = "https://login.example.com/keys".into();
    KeySetConfig { url, issuer: None, audience: None, scopes: Vec::new(), ca: None }
}

/// Ten minutes between two fetches, and an hour of use.
pub(crate) const KEY_SET_TIMES: KeySetTimes =
    KeySetTimes { interval: Duration::from_secs(600), stale_max: Duration::from_secs(3_600) };

/// Claims of `user` that are valid for one hour.
pub(crate) fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": NOW + 3600})
}

/// Returns `claims` with the claims of `more` set; `null` removes a claim.
pub(crate) fn with(mut claims: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub(crate) fn hs256(claims: &Value) -> String {
    hs256_with(&json!({"alg": "HS256"}), claims, SECRET)
}

/// Signs any header with any secret, always with HMAC, whatever the header says.
pub(crate) fn hs256_with(header: &Value, claims: &Value, secret: &[u8]) -> String {
    hs256_text(&header.to_string(), &claims.to_string(), secret)
}

/// Signs any text, for defects that a JSON value cannot have.
pub(crate) fn hs256_text(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

pub(crate) fn rs256(kid: Option<&str>, claims: &Value) -> String {
    rsa(Algorithm::RS256, kid, claims, RSA_PRIVATE)
}

pub(super) fn rs256_of_another_key(claims: &Value) -> String {
    rsa(Algorithm::RS256, None, claims, RSA_OTHER)
}

pub(super) fn rs512(claims: &Value) -> String {
    rsa(Algorithm::RS512, None, claims, RSA_PRIVATE)
}

/// A published key: the public half of the key with which [`rs256`] and [`curve`] sign.
pub(crate) fn jwk_of(algorithm: &str, kid: &str) -> Value {
    use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
    let (algorithm, key) = match algorithm {
        "RS256" => (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA_PRIVATE)),
        "ES256" => (Algorithm::ES256, EncodingKey::from_ec_pem(EC_PRIVATE)),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED25519_PRIVATE)),
    };
    let mut jwk = Jwk::from_encoding_key(&key.unwrap(), algorithm).unwrap();
    jwk.common.key_id = Some(kid.into());
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    serde_json::to_value(jwk).unwrap()
}

/// Signs with a private key of a curve.
pub(crate) fn curve(algorithm: Algorithm, kid: Option<&str>, claims: &Value, pem: &[u8]) -> String {
    let header = Header { kid: kid.map(String::from), ..Header::new(algorithm) };
    let key = match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_ec_pem(pem),
    };
    encode(&header, claims, &key.unwrap()).unwrap()
}

fn rsa(algorithm: Algorithm, kid: Option<&str>, claims: &Value, pem: &[u8]) -> String {
    let header = Header { kid: kid.map(String::from), ..Header::new(algorithm) };
    encode(&header, claims, &EncodingKey::from_rsa_pem(pem).unwrap()).unwrap()
}

/// Returns an issuer that signs with [`SECRET`].
pub(crate) fn issuer() -> crate::auth::issuer::Issuer {
    crate::auth::issuer::Issuer::with_secret(None, SECRET, verifier())
}
