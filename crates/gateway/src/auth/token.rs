//! Verifies JSON Web Tokens and reads the identity of a connection. No I/O, no clock.
//!
//! The key determines the algorithm, never the token: each configured key has one algorithm and one `Validation`.
//! Therefore a public RSA key is never used as an HMAC secret, and `none` matches no key. Keys are found by the
//! opaque `kid`. A token with a key, a certificate or an address of a key in its header is refused.
//!
//! Claims: `sub` (the user), `exp`, optionally `tenant`, `nbf`, `iss`, `aud`, `info`, and the grants `subscribe`
//! and `publish` ([`crate::auth::grants`]).

use std::sync::Arc;

use connection_registry::MemberInfo;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use wire::{Channel, Close, ErrorCode, Families, PRESENCE_INFO_BYTES_MAX, Pattern, TOKEN_BYTES_MAX, TenantId, UserId};

use crate::auth::grants::{BadGrant, GrantList, Grants};

mod key;

pub(crate) use key::{BadKey, Key};

/// The user of a connection, and what the token grants. Kept as long as the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Tenant of the user; the prefix of every scope.
    pub(crate) tenant: TenantId,
    /// User id: the `sub` claim of the token.
    pub(crate) user: UserId,
    /// The channels that the user may use.
    pub(crate) grants: Grants,
    /// Time at which the session ends unless the token is refreshed: the token's `exp` plus the leeway.
    pub(crate) expires_at_unix_s: u64,
    /// Presence info of the user, which other members receive.
    pub(crate) info: MemberInfo,
}

/// The claims that every token must satisfy, in addition to its signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// The `iss` that tokens must carry.
    pub(crate) issuer: Option<String>,
    /// The `aud` that tokens must carry. Without one, a token that names an audience is refused.
    pub(crate) audience: Option<String>,
    /// Largest accepted difference between the issuer's clock and this gateway's clock, in seconds.
    pub(crate) leeway_s: u64,
    /// Grants of tokens without a `subscribe` claim.
    pub(crate) default_subscribe: GrantList,
    /// Grants of tokens without a `publish` claim.
    pub(crate) default_publish: GrantList,
}

/// Verifies tokens. Shared by the edge and all shards.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<(Key, Validation)>,
    policy: Policy,
    families: Families,
    /// Shared by all tokens without a tenant, so that a connection needs no allocation for it.
    default_tenant: TenantId,
}

/// The reason why a token is refused. The message is sent to the client; none repeats the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The token is longer than [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three base64url parts with a JSON header, or a header without a known algorithm.
    #[error("a token is a signed JWT: header.claims.signature, signed with HS256 or RS256")]
    Malformed,
    /// The header has `jwk`, `jku`, `x5c` or `x5u`: the token brings its own key.
    #[error("a token must not bring its own key (jwk, jku, x5c, x5u); keys are configured by kid")]
    KeyInHeader,
    /// The header has `crit`: it requires extensions, and none is supported (RFC 7515 §4.1.11).
    #[error("the token's header requires extensions (crit), which this gateway does not support")]
    Critical,
    /// No configured key has this `kid`.
    #[error("the token's kid matches no configured key")]
    UnknownKey,
    /// No key found by `kid` has the header's algorithm.
    #[error("the token's algorithm differs from that of its key")]
    WrongAlgorithm,
    /// No key verifies the signature.
    #[error("the token's signature does not verify with the configured key")]
    BadSignature,
    /// The claims are not JSON of the documented shape.
    #[error(
        "the token's claims are not as documented: sub and tenant are strings, exp and nbf are numbers of seconds, \
         subscribe and publish are arrays of strings, info is an object, and no claim occurs twice"
    )]
    BadClaims,
    /// A required claim is missing.
    #[error("the token has no {0} claim")]
    MissingClaim(&'static str),
    /// The tenant or the user is not a valid name.
    #[error("the token's {0} claim cannot be used in channel names: {1}")]
    BadName(&'static str, wire::BadName),
    /// A grant is not valid.
    #[error("the token's {0} claim: {1}")]
    BadGrant(&'static str, BadGrant),
    /// The presence info is longer than the gateway sends to other members.
    #[error("the token's info claim has more than {PRESENCE_INFO_BYTES_MAX} bytes")]
    LongInfo,
    /// `iss` is not the configured issuer.
    #[error("the token's issuer (iss) is not the configured issuer")]
    WrongIssuer,
    /// `aud` is not the configured audience, or the token has an `aud` and no audience is configured.
    #[error("the token is for another audience (aud) than this gateway")]
    WrongAudience,
    /// The time of `exp` plus the leeway has passed.
    #[error("the token has expired; send a new one")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
}

/// The claims that are read, as they occur in the token. serde refuses a claim that occurs twice.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    tenant: Option<String>,
    exp: Option<serde_json::Number>,
    nbf: Option<serde_json::Number>,
    subscribe: Option<Vec<String>>,
    publish: Option<Vec<String>>,
    info: Option<serde_json::Map<String, serde_json::Value>>,
}

// === impl Identity ===

impl Identity {
    /// Whether this identity may subscribe to every channel that the pattern matches.
    pub(crate) fn may_subscribe(&self, wanted: &Pattern) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_subscribe(&self.user, wanted)
    }

    /// Whether the token has ended.
    pub(crate) fn is_expired(&self, now_unix_s: u64) -> bool {
        self.expires_at_unix_s <= now_unix_s
    }

    /// Whether this identity may publish to the channel.
    pub(crate) fn may_publish(&self, wanted: &Channel) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_publish(&self.user, wanted)
    }
}

// === impl Verifier ===

impl Verifier {
    /// Accepts tokens that are signed with one of `keys`, that satisfy `policy`, and whose grants follow the grammar
    /// of `families`.
    pub(crate) fn new(keys: Vec<Key>, policy: Policy, families: Families) -> Self {
        let keys = keys.into_iter().map(|key| {
            let validation = validation(key.algorithm(), &policy);
            (key, validation)
        });
        Self { keys: keys.collect(), policy, families, default_tenant: TenantId::default() }
    }

    /// The grammar of channels.
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// Verifies a token at the time `now_unix_s`.
    ///
    /// # Errors
    /// With the reason why the token is refused. An error about a claim is returned only after the signature is
    /// verified.
    pub(crate) fn verify(&self, token: &str, now_unix_s: u64) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.jwk.is_some() || header.jku.is_some() || header.x5c.is_some() || header.x5u.is_some() {
            return Err(TokenError::KeyInHeader);
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let claims = self.verify_signature(token, &header)?;
        self.read_claims(claims, now_unix_s)
    }

    /// Tries the keys that the header can mean. With a `kid`: the keys with this `kid`, or else the keys without a
    /// `kid`. Without a `kid`: all keys. Each candidate must have the algorithm of the header.
    fn verify_signature(&self, token: &str, header: &Header) -> Result<Claims, TokenError> {
        let named = |key: &Key| key.kid().is_some() && key.kid() == header.kid.as_deref();
        let any_named = self.keys.iter().any(|(key, _)| named(key));
        let mut error = TokenError::UnknownKey;
        for (key, validation) in &self.keys {
            let candidate = match header.kid {
                Some(_) if any_named => named(key),
                Some(_) => key.kid().is_none(),
                None => true,
            };
            if !candidate {
                continue;
            }
            if key.algorithm() != header.alg {
                // If several keys are tried, a wrong signature is more informative than a wrong algorithm.
                if error == TokenError::UnknownKey {
                    error = TokenError::WrongAlgorithm;
                }
                continue;
            }
            match decode::<Claims>(token, key.decoding(), validation) {
                Ok(data) => return Ok(data.claims),
                Err(e) => match token_error(e.kind()) {
                    TokenError::BadSignature => error = TokenError::BadSignature,
                    final_error => return Err(final_error),
                },
            }
        }
        Err(error)
    }

    fn read_claims(&self, claims: Claims, now_unix_s: u64) -> Result<Identity, TokenError> {
        let leeway_s = self.policy.leeway_s;
        let exp = seconds(&claims.exp.ok_or(TokenError::MissingClaim("exp"))?);
        let expires_at_unix_s = exp.saturating_add(leeway_s);
        if now_unix_s >= expires_at_unix_s {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| seconds(&nbf) > now_unix_s.saturating_add(leeway_s)) {
            return Err(TokenError::NotYetValid);
        }
        let user = claims.sub.ok_or(TokenError::MissingClaim("sub"))?;
        let user = UserId::parse(&user).map_err(|e| TokenError::BadName("sub", e))?;
        let tenant = match claims.tenant {
            None => self.default_tenant.clone(),
            Some(tenant) => TenantId::parse(&tenant).map_err(|e| TokenError::BadName("tenant", e))?,
        };
        let read_grants = |name, claim: Option<Vec<String>>, default: &GrantList| match claim {
            None => Ok(default.clone()),
            Some(texts) => GrantList::parse(&self.families, &texts).map_err(|e| TokenError::BadGrant(name, e)),
        };
        let grants = Grants {
            subscribe: read_grants("subscribe", claims.subscribe, &self.policy.default_subscribe)?,
            publish: read_grants("publish", claims.publish, &self.policy.default_publish)?,
        };
        let info = claims.info.map(|info| serde_json::Value::Object(info).to_string());
        if info.as_ref().is_some_and(|info| info.len() > PRESENCE_INFO_BYTES_MAX) {
            return Err(TokenError::LongInfo);
        }
        Ok(Identity { tenant, user, grants, expires_at_unix_s, info: info.map(Arc::new) })
    }
}

fn validation(algorithm: Algorithm, policy: &Policy) -> Validation {
    let mut validation = Validation::new(algorithm);
    // `read_claims` checks the times, against the time that is passed in.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.required_spec_claims.clear();
    if let Some(issuer) = &policy.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".into());
    }
    if let Some(audience) = &policy.audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".into());
    }
    validation
}

/// Converts a NumericDate (RFC 7519 §2) to whole seconds. A time before 1970 becomes 0.
fn seconds(number: &serde_json::Number) -> u64 {
    number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)).unwrap_or(0)
}

fn token_error(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidIssuer => TokenError::WrongIssuer,
        ErrorKind::InvalidAudience => TokenError::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::MissingClaim("iss"),
        ErrorKind::MissingRequiredClaim(_) => TokenError::MissingClaim("aud"),
        // The library also reports a broken signature part as a base64 or UTF-8 error.
        ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => TokenError::Malformed,
        ErrorKind::InvalidAlgorithm => TokenError::WrongAlgorithm,
        _ => TokenError::BadClaims,
    }
}

// === impl TokenError ===

impl TokenError {
    /// The error code of the `error` frame.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::TokenExpired,
            _ => ErrorCode::Unauthenticated,
        }
    }

    /// The close code of the close frame that follows.
    pub(crate) fn close(&self) -> Close {
        match self {
            Self::Expired => Close::TokenExpired,
            _ => Close::Unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests;
