//! Tokens as the gateway expects them: HS256, one user each.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::failure::Failure;

/// Longer than any run.
const LIFETIME_S: u64 = 3_600;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
    subscribe: &'a [&'a str],
}

/// Signs tokens with the key that the gateway was given.
pub(crate) struct TokenSigner {
    key: EncodingKey,
    expires_at_s: u64,
}

impl TokenSigner {
    /// With this shared secret.
    pub(crate) fn new(secret: &[u8]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self { key: EncodingKey::from_secret(secret), expires_at_s: now.as_secs() + LIFETIME_S }
    }

    /// A token for `user`, who may also subscribe to what `grants` cover.
    pub(crate) fn sign(&self, user: &str, grants: &[&str]) -> Result<String, Failure> {
        let claims = Claims { sub: user, exp: self.expires_at_s, subscribe: grants };
        jsonwebtoken::encode(&Header::default(), &claims, &self.key)
            .map_err(|error| Failure::Unmeasurable(format!("signing a token: {error}")))
    }
}
