//! Verifies JSON Web Tokens and reads the identity of a connection. No I/O, no clock. A token of a key set whose key is
//! not known yet is refused as retryable; the edge waits for the key before it asks ([`Verifier::await_key`]).
//!
//! The key determines the algorithm, never the token: each configured key has one algorithm and one `Validation`.
//! Therefore a public RSA key is never used as an HMAC secret, and `none` matches no key. Keys are found by the
//! opaque `kid`. A token with a key, a certificate or an address of a key in its header is refused.
//!
//! Claims: `sub` or the configured claim (the user), `exp`, optionally `tenant`, `iat`, `nbf`, `iss`, `aud`, `info`,
//! and the grants `subscribe` and `publish` ([`crate::auth::grants`]).

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use wire::{Families, PRESENCE_INFO_BYTES_MAX, TOKEN_BYTES_MAX, TenantId, UserId};

use crate::auth::grants::{GrantList, Grants};
use crate::auth::key::Key;
use crate::auth::key_set::{KeyLookup, KeySet, KeySetConfig, KeySetTimes};
use crate::auth::permission::Permissions;
use crate::auth::revocations::Revocations;
use crate::auth::user_name;

mod claims;
mod error;
mod identity;

use claims::Claims;
pub(crate) use error::TokenError;
pub(crate) use identity::Identity;

/// The claim that has the user, unless another one is configured.
pub(crate) const USER_CLAIM: &str = "sub";

/// Longest time for which a request waits for the key of its token.
const KEY_WAIT: Duration = Duration::from_secs(3);

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
    key_sets: Vec<TrustedSet>,
    policy: Policy,
    families: Families,
    /// Shared by all tokens without a tenant, so that a connection needs no allocation for it.
    default_tenant: TenantId,
    /// Shared by all tokens without grants.
    default_grants: Grants,
    revocations: Arc<Revocations>,
}

/// The holder of a service token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Tenant and user, for the audit log.
    pub(crate) name: String,
    pub(crate) permissions: Permissions,
}

/// A verified token.
struct Verified {
    identity: Identity,
    claims: Claims,
    /// The scopes that its key may confer.
    may_permit: Permissions,
}

/// Keys that an issuer publishes, and what their tokens must carry: a validation for each algorithm.
#[derive(Debug)]
struct TrustedSet {
    set: Arc<KeySet>,
    validations: [Validation; 3],
    /// The scopes that tokens of these keys may have.
    permissions: Permissions,
}

/// Times of a token, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Times {
    expires_at: u64,
    /// The `iat` claim, or the earliest time at which the token can have been issued.
    issued_at: u64,
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

// === impl TrustedSet ===

impl TrustedSet {
    /// Whether a key has the `kid` of this header.
    fn has_named(&self, header: &Header, now_ms: u64) -> bool {
        matches!(self.set.find(header.kid.as_deref(), now_ms), KeyLookup::Named(_))
    }

    /// Whether a fetch may bring the key of a token with this header that no present key verifies.
    fn may_get(&self, header: &Header, now_ms: u64) -> bool {
        self.validations.iter().any(|v| v.algorithms[0] == header.alg) && !self.has_named(header, now_ms)
    }
}

// === impl Verifier ===

impl Verifier {
    /// Accepts tokens that are signed with one of `keys`, that satisfy `policy`, and whose grants follow the grammar
    /// of `families`.
    pub(crate) fn new(keys: Vec<Key>, policy: Policy, families: Families) -> Self {
        let keys = keys.into_iter().map(|key| {
            let validation = validation(key.algorithm(), policy.issuer.as_deref(), policy.audience.as_deref());
            (key, validation)
        });
        let default_grants = Grants::new(policy.default_subscribe.clone(), policy.default_publish.clone());
        Self {
            keys: keys.collect(),
            key_sets: Vec::new(),
            policy,
            families,
            default_tenant: TenantId::default(),
            default_grants,
            revocations: Arc::default(),
        }
    }

    /// The same verifier, which also accepts tokens that are signed with the keys of these sets. What a set does not
    /// demand of `iss` and `aud`, the policy does.
    pub(crate) fn with_key_sets(mut self, sets: impl IntoIterator<Item = KeySetConfig>, times: KeySetTimes) -> Self {
        let trusted = |config: KeySetConfig| {
            let issuer = config.issuer.as_ref().or(self.policy.issuer.as_ref()).map(String::as_str);
            let audience = config.audience.as_ref().or(self.policy.audience.as_ref()).map(String::as_str);
            let validations = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
            let validations = validations.map(|algorithm| validation(algorithm, issuer, audience));
            let permissions = Permissions::of(config.scopes.iter().map(String::as_str));
            TrustedSet { set: Arc::new(KeySet::new(config, times)), validations, permissions }
        };
        self.key_sets = sets.into_iter().map(trusted).collect();
        self
    }

    /// The key sets, for their fetcher.
    pub(crate) fn key_sets(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        self.key_sets.iter().map(|trusted| &trusted.set)
    }

    /// Waits until the key of a token has been fetched, for a bounded time. Returns at once if no fetch can help.
    pub(crate) async fn await_key(&self, token: &str, now_ms: u64) {
        let Ok(header) = decode_header(token) else { return };
        let kid = header.kid.as_deref();
        if kid.is_some() && self.keys.iter().any(|(key, _)| key.kid() == kid) {
            return;
        }
        if self.key_sets.iter().all(|trusted| trusted.has_named(&header, now_ms)) {
            return;
        }
        if !matches!(self.verify_signature(token, &header, now_ms), Err(TokenError::KeysPending)) {
            return;
        }
        let fetched = async {
            for TrustedSet { set, .. } in self.key_sets.iter().filter(|trusted| trusted.may_get(&header, now_ms)) {
                set.until_fetched(now_ms).await;
            }
        };
        let _ = tokio::time::timeout(KEY_WAIT, fetched).await;
    }

    /// The grammar of channels.
    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// The tokens, sessions and users that are not accepted.
    pub(crate) fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The same verifier in place of another one: it knows what is revoked, keeps the key sets that have not changed, and
    /// the keys of those whose address has not.
    pub(crate) fn succeeding(mut self, before: &Self) -> Self {
        self.revocations = Arc::clone(&before.revocations);
        for trusted in &mut self.key_sets {
            let is_there = |set: &&Arc<KeySet>| set.config().url == trusted.set.config().url;
            if let Some(kept) = before.key_sets().find(|kept| kept.is_same(&trusted.set)) {
                trusted.set = Arc::clone(kept);
            } else if let Some(kept) = before.key_sets().find(is_there) {
                trusted.set.take_keys(kept);
            }
        }
        self
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
        self.verify_claims(token, now_unix_s).map(|verified| verified.identity)
    }

    /// Verifies the token of a service at the time `now_unix_s`. Its scopes are those of its `scope` claim that its key
    /// may confer.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub(crate) fn verify_service(&self, token: &str, now_unix_s: u64) -> Result<Service, TokenError> {
        let Verified { identity: Identity { tenant, user, .. }, claims, may_permit } =
            self.verify_claims(token, now_unix_s)?;
        let scopes = claims.text("scope")?.unwrap_or_default();
        let permissions = Permissions::of(scopes.split(' ')).within(may_permit);
        Ok(Service { name: format!("{tenant}/{user}"), permissions })
    }

    fn verify_claims(&self, token: &str, now_unix_s: u64) -> Result<Verified, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        self.check_header(&header)?;
        let (claims, may_permit) = self.verify_signature(token, &header, now_unix_s.saturating_mul(1_000))?;
        let identity = self.read_claims(&claims, now_unix_s)?;
        match self.revocations.cover_token(identity.holder()) {
            true => Err(TokenError::Revoked),
            false => Ok(Verified { identity, claims, may_permit }),
        }
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

    /// Tries the keys that the header can mean. With a `kid`: the configured keys with this `kid`, or else the configured
    /// keys without a `kid` and the key sets. Without a `kid`: all keys. Each candidate must have the algorithm of the
    /// header.
    fn verify_signature(&self, token: &str, header: &Header, now_ms: u64) -> Result<(Claims, Permissions), TokenError> {
        let kid = header.kid.as_deref();
        let named = |key: &Key| kid.is_some() && key.kid() == kid;
        let any_named = self.keys.iter().any(|(key, _)| named(key));
        let candidates = self.keys.iter().filter(|(key, _)| match kid {
            Some(_) if any_named => named(key),
            Some(_) => key.kid().is_none(),
            None => true,
        });
        let mut error = match try_keys(token, header, candidates.map(|(key, validation)| (key, validation))) {
            Err(error) if !any_named && error.is_about_key() => error,
            verified => return verified,
        };
        for TrustedSet { set, validations, permissions } in &self.key_sets {
            let (KeyLookup::Named(keys) | KeyLookup::Possible(keys)) = set.find(kid, now_ms) else { continue };
            let keys = keys.iter().filter(|key| kid.is_none() || key.kid().is_none_or(|own| Some(own) == kid));
            let keys =
                keys.filter_map(|key| Some((key, validations.iter().find(|v| v.algorithms[0] == key.algorithm())?)));
            match try_keys(token, header, keys) {
                Ok((claims, _)) => return Ok((claims, *permissions)),
                // Another issuer may use the same kid, so what is known of the token counts more.
                Err(TokenError::UnknownKey | TokenError::WrongAlgorithm) if error != TokenError::UnknownKey => {}
                Err(of_set) if error.is_about_key() => error = of_set,
                Err(_) => {}
            }
        }
        let lacking = self.key_sets.iter().filter(|trusted| error.is_about_key() && trusted.may_get(header, now_ms));
        let is_pending = lacking.map(|trusted| trusted.set.request(kid, now_ms)).max() == Some(true);
        Err(if is_pending { TokenError::KeysPending } else { error })
    }

    fn read_claims(&self, claims: &Claims, now_unix_s: u64) -> Result<Identity, TokenError> {
        let Times { expires_at, issued_at } = self.read_times(claims, now_unix_s)?;
        let mark = self.revocations.mark(claims.text("jti")?, claims.text("sid")?, issued_at);
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
        let expires_at_unix_s = expires_at.saturating_add(self.policy.leeway_s);
        Ok(Identity { tenant, user, grants, expires_at_unix_s, info: info.map(Arc::new), mark })
    }

    fn read_times(&self, claims: &Claims, now: u64) -> Result<Times, TokenError> {
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
        let issued_at = issued_at.unwrap_or(expires_at.saturating_sub(lifetime_s_max));
        Ok(Times { expires_at, issued_at })
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

/// Tries keys that the header can mean.
fn try_keys<'k>(
    token: &str,
    header: &Header,
    candidates: impl Iterator<Item = (&'k Key, &'k Validation)>,
) -> Result<(Claims, Permissions), TokenError> {
    let mut error = TokenError::UnknownKey;
    for (key, validation) in candidates {
        if key.algorithm() != header.alg {
            // If several keys are tried, a wrong signature is more informative than a wrong algorithm.
            if error == TokenError::UnknownKey {
                error = TokenError::WrongAlgorithm;
            }
            continue;
        }
        match decode::<Claims>(token, key.decoding(), validation) {
            Ok(data) => return Ok((data.claims, key.permissions())),
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

fn validation(algorithm: Algorithm, issuer: Option<&str>, audience: Option<&str>) -> Validation {
    let mut validation = Validation::new(algorithm);
    // `read_times` checks the times, against the time that is passed in.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.required_spec_claims.clear();
    if let Some(issuer) = issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".into());
    }
    if let Some(audience) = audience {
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
