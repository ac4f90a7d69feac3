//! Tokens as the gateways of a run expect them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

/// It protects nothing: everything listens on loopback, for one run.
pub(crate) const SECRET: &str = "chaos-secret-of-at-least-32-bytes";
/// Longer than any run.
const LIFETIME_S: u64 = 3_600;
const GRANTS: [&str; 2] = ["collection:*", "system:*"];

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    subscribe: &'a [&'a str],
    publish: &'a [&'a str],
}

/// A token for `user`, who may hear and say everything.
pub(crate) fn sign(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let claims = Claims { sub: user, exp: now.as_secs() + LIFETIME_S, subscribe: &GRANTS, publish: &GRANTS };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("HS256 signs anything")
}
