//! Who holds a connection: reads and checks JSON Web Tokens. No I/O, no clock.
//!
//! The key decides the algorithm, never the token: each configured key has one algorithm and one
//! `Validation`, so a public RSA key is never tried as an HMAC secret and `none` matches nothing. Keys are
//! found by the opaque `kid`; keys, certificates or addresses inside a token are refused unread.
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

/// Who holds a connection, and what the token allows. Kept as long as the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Whose customer; the prefix of every scope.
    pub(crate) tenant: TenantId,
    /// The token's `sub`.
    pub(crate) user: UserId,
    /// What may be heard and said.
    pub(crate) grants: Grants,
    /// When the session ends unless refreshed: the token's `exp` and the leeway after it.
    pub(crate) expires_at_unix_s: u64,
    /// What others may know of the user.
    pub(crate) info: MemberInfo,
}

/// What is demanded of every token beside a signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// The `iss` that tokens must carry.
    pub(crate) issuer: Option<String>,
    /// The `aud` that tokens must carry. Without one, a token that names an audience is not for us.
    pub(crate) audience: Option<String>,
    /// How far the issuer's clock may be from ours.
    pub(crate) leeway_s: u64,
    /// Grants of tokens without a `subscribe` claim.
    pub(crate) default_subscribe: GrantList,
    /// Grants of tokens without a `publish` claim.
    pub(crate) default_publish: GrantList,
}

/// Checks tokens. Shared by the edge and all shards.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<(Key, Validation)>,
    policy: Policy,
    families: Families,
    /// Shared by all tokens without a tenant: an `Arc` clone instead of a name per connection.
    default_tenant: TenantId,
}

/// Why a token is not taken. The sentences are shown to its holder; none repeats the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Above [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three base64url parts with a JSON header, or a header without a known algorithm.
    #[error("a token is a signed JWT: header.claims.signature, signed with HS256 or RS256")]
    Malformed,
    /// `jwk`, `jku`, `x5c`, `x5u`: a token that brings its own key.
    #[error("a token must not bring its own key (jwk, jku, x5c, x5u); keys are configured by kid")]
    KeyInHeader,
    /// `crit`: extensions that must be understood, and are not (RFC 7515 §4.1.11).
    #[error("the token's header demands extensions (crit) that are not known here")]
    Critical,
    /// No configured key has this `kid`.
    #[error("the token's kid names no key that is configured here")]
    UnknownKey,
    /// No key found by `kid` has the header's algorithm.
    #[error("the token's algorithm is not that of its key")]
    WrongAlgorithm,
    /// No key verifies it.
    #[error("the token's signature does not verify with the configured key")]
    BadSignature,
    /// The claims are not JSON of the documented shape.
    #[error(
        "the token's claims are not as documented: sub and tenant are strings, exp and nbf are numbers of seconds, \
         subscribe and publish are arrays of strings, info is an object, and none stands twice"
    )]
    BadClaims,
    /// A claim that must be there is not.
    #[error("the token has no {0} claim")]
    MissingClaim(&'static str),
    /// A tenant or user that is not a name.
    #[error("the token's {0} claim cannot be used in channel names: {1}")]
    BadName(&'static str, wire::BadName),
    /// A grant that cannot be read.
    #[error("the token's {0} claim: {1}")]
    BadGrant(&'static str, BadGrant),
    /// More to say of its holder than is passed on.
    #[error("the token's info claim has more than {PRESENCE_INFO_BYTES_MAX} bytes")]
    LongInfo,
    /// `iss` is not the configured issuer.
    #[error("the token's issuer (iss) is not the one expected here")]
    WrongIssuer,
    /// `aud` is not the configured audience, or there is one and none is configured.
    #[error("the token is for another audience (aud) than this gateway")]
    WrongAudience,
    /// `exp` has passed.
    #[error("the token has expired; come back with a new one")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
}

/// The claims read here, as they stand in the token. A claim that stands twice is refused by serde.
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
    /// Whether this identity may hear all that the pattern hears.
    pub(crate) fn may_subscribe(&self, wanted: &Pattern) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_subscribe(&self.user, wanted)
    }

    /// Whether this identity may publish to the channel.
    pub(crate) fn may_publish(&self, wanted: &Channel) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_publish(&self.user, wanted)
    }
}

// === impl Verifier ===

impl Verifier {
    /// Takes tokens signed by one of `keys`, as `policy` demands, with grants in the grammar of `families`.
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

    /// Reads a token as of `now_unix_s`.
    ///
    /// # Errors
    /// Says what is wrong with it. Nothing about claims is said before a signature has verified.
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

    /// Tries the keys that the header may mean: those of its `kid`, otherwise those configured without one;
    /// all of its algorithm if it has no `kid`.
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
                // Of several keys, a signature that fails says more than an algorithm that differs.
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
    // Times are checked by `read_claims`, against the clock it is handed.
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

/// A NumericDate (RFC 7519 §2), fractions cut off; before 1970 is 1970.
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
        // Base64 and UTF-8 are also how a broken signature part shows itself.
        ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => TokenError::Malformed,
        ErrorKind::InvalidAlgorithm => TokenError::WrongAlgorithm,
        _ => TokenError::BadClaims,
    }
}

// === impl TokenError ===

impl TokenError {
    /// The code of the `error` frame.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::TokenExpired,
            _ => ErrorCode::Unauthenticated,
        }
    }

    /// The code of the close that follows.
    pub(crate) fn close(&self) -> Close {
        match self {
            Self::Expired => Close::TokenExpired,
            _ => Close::Unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests;
