//! Signs tokens for `tidegate token` and for the dev page. Backends sign their own tokens.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use wire::{TenantId, UserId};

use crate::auth::token::Verifier;

/// The content of a token to sign.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// User id: the `sub` claim of the token.
    pub user: UserId,
    /// The tenant. `None` leaves out the `tenant` claim, which means the default tenant.
    pub tenant: Option<TenantId>,
    /// The `subscribe` grants. An empty list leaves out the claim, and the gateway's defaults apply.
    pub subscribe: Vec<String>,
    /// The `publish` grants. An empty list leaves out the claim, and the gateway's defaults apply.
    pub publish: Vec<String>,
    /// The scopes of a service token. An empty list leaves out the claim.
    pub scopes: Vec<String>,
    /// The presence info that other members of a scope receive.
    pub info: Option<Map<String, Value>>,
    /// Lifetime of the token, in seconds.
    pub expires_in_s: u64,
}

/// The reason why a token cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No HS256 key is configured: of an RS256 key the gateway has only the public half.
    #[error("no HS256 key is configured{0}; sign tokens where the private key is")]
    NoSecret(String),
    /// The gateway would refuse the token, for example because a grant is not valid.
    #[error("a gateway with this configuration would refuse the token: {0}")]
    Refused(String),
}

/// Signs tokens with one of the configured secrets.
#[derive(Debug)]
pub struct Issuer {
    header: Header,
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    /// Checks every new token in the same way as a gateway does.
    verifier: Verifier,
}

impl Issuer {
    /// Signs with `secret`. `verifier` must accept the tokens.
    pub(crate) fn with_secret(kid: Option<String>, secret: &[u8], verifier: Verifier) -> Self {
        let header = Header { kid, ..Header::new(Algorithm::HS256) };
        Self { header, key: EncodingKey::from_secret(secret), issuer: None, audience: None, verifier }
    }

    /// Sets the `iss` and `aud` of every token.
    pub(crate) fn naming(self, issuer: Option<String>, audience: Option<String>) -> Self {
        Self { issuer, audience, ..self }
    }

    /// Signs a token that is valid from `now_unix_s` on.
    ///
    /// # Errors
    /// If the gateway would refuse the token.
    pub fn issue(&self, request: &TokenRequest, now_unix_s: u64) -> Result<String, IssueError> {
        let mut claims = Map::new();
        let mut claim = |name: &str, value: Option<Value>| value.map(|value| claims.insert(name.into(), value));
        let grants = |list: &[String]| (!list.is_empty()).then(|| Value::from(list));
        claim("sub", Some(request.user.as_str().into()));
        claim("tenant", request.tenant.as_ref().map(|tenant| tenant.as_str().into()));
        claim("iat", Some(now_unix_s.into()));
        claim("exp", Some(now_unix_s.saturating_add(request.expires_in_s).into()));
        claim("iss", self.issuer.clone().map(Value::from));
        claim("aud", self.audience.clone().map(Value::from));
        claim("subscribe", grants(&request.subscribe));
        claim("publish", grants(&request.publish));
        claim("scope", (!request.scopes.is_empty()).then(|| request.scopes.join(" ").into()));
        claim("info", request.info.clone().map(Value::from));
        let token = encode(&self.header, &claims, &self.key).expect("a map of JSON values is JSON");
        match self.verifier.verify(&token, now_unix_s) {
            Ok(_) => Ok(token),
            Err(error) => Err(IssueError::Refused(error.to_string())),
        }
    }
}
