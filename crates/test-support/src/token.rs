//! Tokens that the gateways of tests accept.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

/// The key protects nothing: the gateways that trust it listen only on loopback.
const SECRET: &str = "a published secret for tests, 32 bytes or more";

/// The value of `auth.keys` in the configuration of a gateway that accepts [`sign`]'s tokens.
pub fn keys() -> String {
    format!(r#"[{{ algorithm = "HS256", secret = "{SECRET}" }}]"#)
}

/// A token with these claims, signed with HS256.
pub fn sign(claims: &impl Serialize) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).expect("HS256 signs any claims")
}

/// The claim `exp` of a token that is valid for this many seconds, or has expired if they are negative.
pub fn expiry(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    now.as_secs().saturating_add_signed(seconds)
}
