//! Tokens as the gateways of a run expect them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

/// It protects nothing: everything listens on loopback, for one run.
pub(crate) const SECRET: &str = "chaos-secret-of-at-least-32-bytes";
/// Longer than any run, also by a clock that is hours ahead.
const LIFETIME_S: i64 = 24 * 3_600;
const GRANTS: [&str; 4] = ["collection:*", "system:*", "ticker:*", "feed:*"];

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    subscribe: &'a [&'a str],
    publish: &'a [&'a str],
}

/// A token for `user`, who may hear and say everything.
pub(crate) fn sign(user: &str) -> String {
    sign_for(user, LIFETIME_S)
}

/// One that runs out in so many seconds, or did so long ago.
pub(crate) fn sign_for(user: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let exp = now.as_secs().saturating_add_signed(seconds);
    let claims = Claims { sub: user, exp, subscribe: &GRANTS, publish: &GRANTS };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("HS256 signs anything")
}
