//! The tokens of a run's clients.

use serde_json::json;
use test_support::token;

/// Longer than any run, also by a clock that is hours ahead.
const LIFETIME_S: i64 = 24 * 3_600;
const GRANTS: [&str; 4] = ["collection:*", "system:*", "ticker:*", "feed:*"];

/// A token for `user`, which permits every channel.
pub(crate) fn sign(user: &str) -> String {
    sign_for(user, LIFETIME_S)
}

/// A token for this many seconds. If they are negative, the token has expired.
pub(crate) fn sign_for(user: &str, seconds: i64) -> String {
    token::sign(&json!({ "sub": user, "exp": token::expiry(seconds), "subscribe": GRANTS, "publish": GRANTS }))
}
