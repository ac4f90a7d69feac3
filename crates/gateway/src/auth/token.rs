//! Verifies JSON Web Tokens and reads the identity of a connection. No I/O, no clock.
//!
//! The key determines the algorithm, never the token: each configured key has one algorithm and one `Validation`.
//! Therefore a public RSA key is never used as an HMAC secret, and `none` matches no key. Keys are found by the
//! opaque `kid`. A token with a key, a certificate or an address of a key in its header is refused.
//!
//! Claims: `sub` or the configured claim (the user), `exp`, optionally `tenant`, `iat`, `nbf`, `iss`, `aud`, `info`,
//! and the grants `subscribe` and `publish` ([`crate::auth::grants`]).

use std::sync::Arc;

use connection_registry::MemberInfo;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use wire::{Channel, Families, PRESENCE_INFO_BYTES_MAX, Pattern, TOKEN_BYTES_MAX, TenantId, UserId};

use crate::auth::grants::{GrantList, Grants};
use crate::auth::user_name;

mod claims;
mod error;
mod key;
mod mistaken_secret;

use claims::Claims;
pub(crate) use error::TokenError;
pub(crate) use key::{BadKey, Key};
pub(crate) use mistaken_secret::BYTE_ORDER_MARK;

/// The claim that has the user, unless another one is configured.
pub(crate) const USER_CLAIM: &str = "sub";

/// The user of a connection, and what the token grants. Kept as long as the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Tenant of the user; the prefix of every scope.
    pub(crate) tenant: TenantId,
    /// User id: the `sub` claim of the token, or the configured claim.
    pub(crate) user: UserId,
    /// The channels that the user may use.
    pub(crate) grants: Grants,
    /// Time at which the session ends unless the token is refreshed: the token's `exp` plus the leeway.
    pub(crate) expires_at_unix_s: u64,
    /// Presence info of the user, which other members receive.
    pub(crate) info: MemberInfo,
}

/// The claims that every token must satisfy, in addition to its signature.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The `iss` that tokens must carry.
    pub(crate) issuer: Option<String>,
    /// The `aud` that tokens must carry. Without one, a token that names an audience is refused.
    pub(crate) audience: Option<String>,
    /// The `typ` that the headers of tokens must carry.
    pub(crate) token_type: Option<String>,
    /// Largest accepted difference between the issuer's clock and this gateway's clock, in seconds.
    pub(crate) leeway_s: u64,
    /// Longest accepted lifetime of a token, in seconds: from `iat`, and from the time when it is shown.
    pub(crate) lifetime_s_max: u64,
    /// The claim that has the user.
    pub(crate) user_claim: String,
    /// Whether users may have characters that names do not have; see [`user_name::escape`].
    pub(crate) escapes_users: bool,
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
    /// Shared by all tokens without grants.
    default_grants: Grants,
}

// === impl Identity ===

impl Identity {
    /// Whether this identity may subscribe to every channel that the pattern matches.
    pub(crate) fn may_subscribe(&self, wanted: &Pattern) -> bool {
        wanted.scope.tenant() == self.tenant.as_str() && self.grants.may_subscribe(&self.user, wanted)
    }

    /// Why the token does not grant a subscription, for the client's developer.
    pub(crate) fn why_not_subscribe(&self, families: &Families, wanted: &Pattern) -> String {
        self.grants.why_not_subscribe(families, &self.user, wanted)
    }

    /// Why the token does not grant a publish, for the client's developer.
    pub(crate) fn why_not_publish(&self, families: &Families, wanted: &Channel) -> String {
        self.grants.why_not_publish(families, &self.user, wanted)
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

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            token_type: None,
            leeway_s: 0,
            lifetime_s_max: 30 * 24 * 60 * 60,
            user_claim: USER_CLAIM.into(),
            escapes_users: false,
            default_subscribe: GrantList::default(),
            default_publish: GrantList::default(),
        }
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
        let default_grants = Grants::new(policy.default_subscribe.clone(), policy.default_publish.clone());
        Self { keys: keys.collect(), policy, families, default_tenant: TenantId::default(), default_grants }
    }

    /// The grammar of channels.
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// Milliseconds until the identity's token expires, without the leeway.
    pub(crate) fn expires_in_ms(&self, identity: &Identity, now_unix_ms: u64) -> u64 {
        let expires_at_s = identity.expires_at_unix_s.saturating_sub(self.policy.leeway_s);
        expires_at_s.saturating_mul(1_000).saturating_sub(now_unix_ms)
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
        self.check_header(&header)?;
        let claims = self.verify_signature(token, &header)?;
        self.read_claims(&claims, now_unix_s)
    }

    fn check_header(&self, header: &Header) -> Result<(), TokenError> {
        if header.jwk.is_some() || header.jku.is_some() || header.x5c.is_some() || header.x5u.is_some() {
            return Err(TokenError::KeyInHeader);
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let is_of_type = |wanted: &str| header.typ.as_deref().is_some_and(|own| is_same_type(own, wanted));
        match &self.policy.token_type {
            Some(wanted) if !is_of_type(wanted) => Err(TokenError::WrongType),
            _ => Ok(()),
        }
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
                Err(e) => match TokenError::of(e.kind()) {
                    TokenError::BadSignature => {
                        let mistake = key.mistaken().explain(token).map(TokenError::MistakenSecret);
                        error = mistake.unwrap_or(TokenError::BadSignature);
                    }
                    final_error => return Err(final_error),
                },
            }
        }
        Err(error)
    }

    fn read_claims(&self, claims: &Claims, now_unix_s: u64) -> Result<Identity, TokenError> {
        let expires_at_unix_s = self.read_times(claims, now_unix_s)? + self.policy.leeway_s;
        let user = self.read_user(claims)?;
        let tenant = match claims.text("tenant")? {
            None => self.default_tenant.clone(),
            Some(tenant) => TenantId::parse(tenant).map_err(|e| TokenError::BadName("tenant".into(), e))?,
        };
        let grants = self.read_grants(claims)?;
        let info = claims.object("info")?.map(|info| serde_json::to_string(info).expect("JSON is written as JSON"));
        if info.as_ref().is_some_and(|info| info.len() > PRESENCE_INFO_BYTES_MAX) {
            return Err(TokenError::LongInfo);
        }
        Ok(Identity { tenant, user, grants, expires_at_unix_s, info: info.map(Arc::new) })
    }

    /// Checks the times, and returns `exp`.
    fn read_times(&self, claims: &Claims, now: u64) -> Result<u64, TokenError> {
        let Policy { leeway_s, lifetime_s_max, .. } = self.policy;
        let expires_at = claims.seconds("exp")?.ok_or(TokenError::MissingClaim("exp".into()))?;
        let (issued_at, valid_from) = (claims.seconds("iat")?, claims.seconds("nbf")?);
        let named = [("exp", Some(expires_at)), ("iat", issued_at), ("nbf", valid_from)];
        if let Some((name, _)) = named.iter().find(|(_, time)| time.is_some_and(is_in_milliseconds)) {
            return Err(TokenError::NotSeconds(name));
        }
        if now >= expires_at.saturating_add(leeway_s) {
            return Err(TokenError::Expired);
        }
        if valid_from.is_some_and(|valid_from| valid_from > now.saturating_add(leeway_s)) {
            return Err(TokenError::NotYetValid);
        }
        let latest = now.saturating_add(leeway_s).saturating_add(lifetime_s_max);
        let is_too_long = |issued_at: u64| expires_at.saturating_sub(issued_at) > lifetime_s_max;
        if expires_at > latest || issued_at.is_some_and(is_too_long) {
            return Err(TokenError::LongLifetime(lifetime_s_max));
        }
        Ok(expires_at)
    }

    fn read_user(&self, claims: &Claims) -> Result<UserId, TokenError> {
        let name = self.policy.user_claim.as_str();
        let user = match name {
            USER_CLAIM => claims.text(name)?.map(str::to_owned),
            // Some issuers number their users.
            _ => claims.text_or_number(name)?,
        };
        let user = user.ok_or_else(|| TokenError::MissingClaim(name.into()))?;
        let read = if self.policy.escapes_users { user_name::escape } else { UserId::parse };
        read(&user).map_err(|error| TokenError::BadName(name.into(), error))
    }

    fn read_grants(&self, claims: &Claims) -> Result<Grants, TokenError> {
        let (subscribe, publish) = (claims.texts("subscribe")?, claims.texts("publish")?);
        if subscribe.is_none() && publish.is_none() {
            return Ok(self.default_grants.clone());
        }
        let read = |name, texts: Option<Vec<&str>>, default: &GrantList| match texts {
            None => Ok(default.clone()),
            Some(texts) => GrantList::parse(&self.families, &texts).map_err(|e| TokenError::BadGrant(name, e)),
        };
        Ok(Grants::new(
            read("subscribe", subscribe, &self.policy.default_subscribe)?,
            read("publish", publish, &self.policy.default_publish)?,
        ))
    }
}

fn validation(algorithm: Algorithm, policy: &Policy) -> Validation {
    let mut validation = Validation::new(algorithm);
    // `read_times` checks the times, against the time that is passed in.
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

/// Whether two values of `typ` are the same: `application/` may be left out, and case does not matter (RFC 7515
/// §4.1.9).
fn is_same_type(own: &str, wanted: &str) -> bool {
    let short = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_prefix("application/").map(str::to_owned).unwrap_or(text)
    };
    short(own) == short(wanted)
}

/// Whether a time is so far ahead that its unit must be a millisecond or less: as seconds, it is after the year 5000.
fn is_in_milliseconds(time: u64) -> bool {
    (100_000_000_000..10_000_000_000_000_000_000).contains(&time)
}

#[cfg(test)]
mod tests;
