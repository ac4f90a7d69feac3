//! Signs tokens: for `tidegate token` and the dev page. Backends sign their own.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use wire::{TenantId, UserId};

use crate::auth::token::Verifier;

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The token's `sub`.
    pub user: UserId,
    /// Whose customer; without one the token has no `tenant`, which is the default tenant.
    pub tenant: Option<TenantId>,
    /// Grants; with none the token has no `subscribe`, and the gateway's defaults hold.
    pub subscribe: Vec<String>,
    /// As `subscribe`.
    pub publish: Vec<String>,
    /// What others may know of the user, where presence shows it.
    pub info: Option<Map<String, Value>>,
    /// How long it is good.
    pub expires_in_s: u64,
}

/// Why a token cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// RS256 keys are only there in their public half.
    #[error("no HS256 key is configured{0}; a token is signed where the private key is")]
    NoSecret(String),
    /// The gateway would not take it: a grant that cannot be read, for instance.
    #[error("a gateway with this configuration would refuse the token: {0}")]
    Refused(String),
}

/// Signs with one of the configured secrets.
#[derive(Debug)]
pub struct Issuer {
    header: Header,
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    /// Every token is checked as a gateway will check it, before anybody relies on it.
    verifier: Verifier,
}

impl Issuer {
    /// Signs with this secret what `verifier` will take.
    pub(crate) fn with_secret(kid: Option<String>, secret: &[u8], verifier: Verifier) -> Self {
        let header = Header { kid, ..Header::new(Algorithm::HS256) };
        Self { header, key: EncodingKey::from_secret(secret), issuer: None, audience: None, verifier }
    }

    /// Puts these into every token.
    pub(crate) fn naming(self, issuer: Option<String>, audience: Option<String>) -> Self {
        Self { issuer, audience, ..self }
    }

    /// A token that is good from now on.
    ///
    /// # Errors
    /// When the gateway would not take it.
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
        claim("info", request.info.clone().map(Value::from));
        let token = encode(&self.header, &claims, &self.key).expect("a map of JSON values is JSON");
        match self.verifier.verify(&token, now_unix_s) {
            Ok(_) => Ok(token),
            Err(error) => Err(IssueError::Refused(error.to_string())),
        }
    }
}
