//! The keys that verify tokens, and the claims that tokens must carry.

use std::fmt;
use std::time::Duration;

use wire::Families;

use super::choices::ALGORITHMS;
use super::raw::{RawConfig, TableRow};
use super::text_file::read_text;
use crate::auth::grants::GrantList;
use crate::auth::issuer::{IssueError, Issuer};
use crate::auth::key::{BadKey, Key};
use crate::auth::key_set::{KeySetConfig, KeySetTimes};
use crate::auth::key_set_url::KeySetUrl;
use crate::auth::permission::Permissions;
use crate::auth::report::TokenReport;
use crate::auth::token::{Policy, Verifier};
use crate::transport::key_sets;
use crate::transport::tls_client::TlsClient;

/// The checked values of `[auth]`.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// A token may be signed with any of these keys, or with one of a key set. There is a key or a key set when the
    /// gateway serves.
    pub keys: Vec<AuthKey>,
    /// Keys that issuers publish.
    pub key_sets: Vec<KeySetConfig>,
    /// When they are fetched, and how long they are used.
    pub key_set_times: KeySetTimes,
    /// The `iss` that tokens must carry.
    pub issuer: Option<String>,
    /// The `aud` that tokens must carry.
    pub audience: Option<String>,
    /// The `typ` that the headers of tokens must carry.
    pub token_type: Option<String>,
    /// Largest accepted difference between the token issuer's clock and the gateway's clock.
    pub leeway: Duration,
    /// Longest accepted lifetime of a token.
    pub lifetime_max: Duration,
    /// How long a client may take to send a new token after its own has expired.
    pub expiry_grace: Duration,
    /// The claim that has the user.
    pub user_claim: String,
    /// Whether a user may have characters that names do not have. They are escaped.
    pub escapes_users: bool,
    /// Grants of tokens without a `subscribe` claim, in addition to the user's own `user:ID`.
    pub default_subscribe: Vec<String>,
    /// Grants of tokens without a `publish` claim, in addition to the user's own `user:ID`.
    pub default_publish: Vec<String>,
    /// Name of the cookie that may carry the token.
    pub cookie: String,
}

/// One row of `auth.keys`.
#[derive(Debug, Clone)]
pub struct AuthKey {
    /// The key verifies tokens with this `kid`. A key without a `kid` is tried for every token of its algorithm.
    pub kid: Option<String>,
    /// The key material, by algorithm.
    pub material: KeyMaterial,
    /// The scopes that tokens of this key may have.
    pub scopes: Vec<String>,
}

/// The material of a key, by its algorithm.
#[derive(Debug, Clone)]
pub enum KeyMaterial {
    /// A shared secret of at least 32 bytes. It verifies tokens and can sign them.
    Hs256(Secret),
    /// A public RSA key in PEM. It verifies tokens and cannot sign them.
    Rs256(Vec<u8>),
    /// A public key on the curve P-256 in PEM.
    Es256(Vec<u8>),
    /// A public Ed25519 key in PEM.
    EdDsa(Vec<u8>),
}

/// Secret bytes. Their `Debug` output is redacted.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Returns the bytes for signing and verifying.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    fn generate() -> Self {
        let mut bytes = vec![0; 32];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers once it has started");
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// The expected value of `auth.keys` when no key is configured: how to create a key and how to configure it.
const HOW_TO_MAKE_A_KEY: &str = "\
at least one key, to verify tokens. To create one:
        openssl rand -hex 32 > token.key
    and to set it in the configuration file:
        [[auth.keys]]
        algorithm = \"HS256\"
        secret_file = \"token.key\"
    or, to try the gateway on this machine only, start it with --dev";

impl AuthConfig {
    pub(super) fn check(raw: &RawConfig, families: &Families) -> Self {
        let (mut keys, mut key_sets): (Vec<AuthKey>, Vec<KeySetConfig>) = (Vec::new(), Vec::new());
        let rows = raw.rows("auth.keys");
        for row in &rows {
            if row.has("jwks_url") {
                key_sets.extend(check_key_set(raw, row));
                continue;
            }
            for name in ["issuer", "audience", "ca_file"].into_iter().filter(|name| row.has(name)) {
                raw.wrong_row(row, name, "jwks_url with it; auth.issuer and auth.audience apply to all other keys");
            }
            let kid = row.text("kid").map(str::to_owned);
            if kid.is_some() && keys.iter().any(|key| key.kid == kid) {
                raw.wrong_row(row, "kid", "a kid that no other key has");
            }
            keys.extend(check_material(raw, row).map(|material| AuthKey { kid, material, scopes: scopes(row) }));
        }
        let defaults = |name| {
            let texts = raw.texts(name);
            if let Err(error) = GrantList::parse_defaults(families, &texts) {
                raw.wrong(name, format!("grants; {error}"));
            }
            texts
        };
        Self {
            keys,
            key_sets,
            key_set_times: KeySetTimes {
                interval: Duration::from_secs(raw.number("auth.jwks_refresh_s")),
                stale_max: Duration::from_secs(raw.number("auth.jwks_stale_s_max")),
            },
            issuer: raw.optional_text("auth.issuer").map(str::to_owned),
            audience: raw.optional_text("auth.audience").map(str::to_owned),
            token_type: raw.optional_text("auth.token_type").map(str::to_owned),
            leeway: Duration::from_secs(raw.number("auth.leeway_s")),
            lifetime_max: Duration::from_secs(raw.number("auth.lifetime_s_max")),
            expiry_grace: raw.ms("auth.expiry_grace_ms"),
            user_claim: raw.text("auth.user_claim").to_owned(),
            escapes_users: raw.flag("auth.escape_users"),
            default_subscribe: defaults("auth.default_subscribe"),
            default_publish: defaults("auth.default_publish"),
            cookie: raw.text("auth.cookie").to_owned(),
        }
    }

    /// Reports a problem if there is no key, because serving needs one. In dev mode it generates a key instead, which
    /// is lost when the process ends.
    pub(super) fn require_key(&mut self, raw: &RawConfig) {
        if raw.rows("auth.keys").is_empty() {
            if raw.flag("dev") {
                let material = KeyMaterial::Hs256(Secret::generate());
                self.keys.push(AuthKey { kid: Some("dev".into()), material, scopes: Vec::new() });
            } else {
                raw.wrong("auth.keys", HOW_TO_MAKE_A_KEY);
            }
        }
    }

    /// Builds the verifier that checks tokens with this configuration.
    pub(crate) fn verifier(&self, families: Families) -> Verifier {
        let defaults = |texts: &[String]| GrantList::parse_defaults(&families, texts).expect("checked at start");
        let policy = Policy {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            token_type: self.token_type.clone(),
            leeway_s: self.leeway.as_secs(),
            lifetime_s_max: self.lifetime_max.as_secs(),
            user_claim: self.user_claim.clone(),
            escapes_users: self.escapes_users,
            default_subscribe: defaults(&self.default_subscribe),
            default_publish: defaults(&self.default_publish),
        };
        let key = |key: &AuthKey| match &key.material {
            KeyMaterial::Hs256(secret) => Key::hs256(key.kid.clone(), secret.expose()).expect("checked at start"),
            KeyMaterial::Rs256(pem) => Key::rs256(key.kid.clone(), pem).expect("checked at start"),
            KeyMaterial::Es256(pem) => Key::es256(key.kid.clone(), pem).expect("checked at start"),
            KeyMaterial::EdDsa(pem) => Key::eddsa(key.kid.clone(), pem).expect("checked at start"),
        };
        let key = |configured: &AuthKey| {
            key(configured).permitting(Permissions::of(configured.scopes.iter().map(String::as_str)))
        };
        Verifier::new(self.keys.iter().map(key).collect(), policy, families)
            .with_key_sets(self.key_sets.clone(), self.key_set_times)
    }

    /// Reads a token as a gateway with this configuration does.
    ///
    /// # Errors
    /// With the reason for which the gateway refuses the token.
    pub async fn read_token(&self, families: Families, token: &str, now_unix_ms: u64) -> Result<TokenReport, String> {
        let verifier = self.verifier(families);
        for set in verifier.key_sets() {
            key_sets::refresh(set).await;
        }
        TokenReport::read(&verifier, token, now_unix_ms)
    }

    /// Returns an issuer that signs with the HS256 key whose kid is `kid`, or with the first HS256 key if `kid` is
    /// `None`.
    ///
    /// # Errors
    /// If there is no HS256 key with this kid, or no HS256 key at all.
    pub fn issuer(&self, families: Families, kid: Option<&str>) -> Result<Issuer, IssueError> {
        let can_sign = |key: &&AuthKey| kid.is_none() || key.kid.as_deref() == kid;
        let secret = self.keys.iter().filter(can_sign).find_map(|key| match &key.material {
            KeyMaterial::Hs256(secret) => Some((key.kid.clone(), secret)),
            KeyMaterial::Rs256(_) | KeyMaterial::Es256(_) | KeyMaterial::EdDsa(_) => None,
        });
        let called = || kid.map(|kid| format!(" with the kid {kid:?}")).unwrap_or_default();
        let (kid, secret) = secret.ok_or_else(|| IssueError::NoSecret(called()))?;
        let verifier = self.verifier(families);
        Ok(Issuer::with_secret(kid, secret.expose(), verifier).naming(self.issuer.clone(), self.audience.clone()))
    }
}

/// The scopes that tokens of this key may have.
fn scopes(row: &TableRow) -> Vec<String> {
    row.texts("scopes")
}

fn check_material(raw: &RawConfig, row: &TableRow) -> Option<KeyMaterial> {
    let needs = |names: &[&str]| {
        let given = ["secret", "secret_file", "public_key_file"].into_iter().filter(|name| row.has(name));
        let (given, names) = (given.collect::<Vec<_>>(), names.join(" or "));
        if given.len() == 1 && names.split(" or ").any(|name| name == given[0]) {
            return Some(given[0]);
        }
        let algorithm = row.text("algorithm").unwrap_or_default();
        raw.wrong_row(row, "algorithm", format!("{algorithm} with {names}, and no other key material"));
        None
    };
    let checked = |name: &str, result: Result<Key, BadKey>| {
        result.map_err(|error| raw.wrong_row(row, name, format!("a key; {error}"))).is_ok()
    };
    match row.text("algorithm") {
        Some("HS256") => {
            let name = needs(&["secret", "secret_file"])?;
            let secret = match name {
                "secret" => row.text(name)?.as_bytes().to_vec(),
                _ => without_line_end(read_file(raw, row, name)?),
            };
            checked(name, Key::hs256(None, &secret)).then_some(KeyMaterial::Hs256(Secret(secret)))
        }
        Some(algorithm) => {
            let name = needs(&["public_key_file"])?;
            let pem = read_file(raw, row, name)?;
            let (key, material) = match algorithm {
                "RS256" => (Key::rs256(None, &pem), KeyMaterial::Rs256(pem)),
                "ES256" => (Key::es256(None, &pem), KeyMaterial::Es256(pem)),
                _ => (Key::eddsa(None, &pem), KeyMaterial::EdDsa(pem)),
            };
            checked(name, key).then_some(material)
        }
        // The value has the wrong kind, which is already reported.
        None if row.has("algorithm") => None,
        None => {
            raw.wrong_row(row, "algorithm", ALGORITHMS.join(" or "));
            None
        }
    }
}

fn check_key_set(raw: &RawConfig, row: &TableRow) -> Option<KeySetConfig> {
    for name in
        ["kid", "algorithm", "secret", "secret_file", "public_key_file"].into_iter().filter(|name| row.has(name))
    {
        raw.wrong_row(row, name, "no key beside jwks_url: the key set has kids, algorithms and keys");
    }
    let url = row.text("jwks_url")?;
    let checked =
        KeySetUrl::parse(url).map_err(|what| raw.wrong_row(row, "jwks_url", format!("the URL of a key set; {what}")));
    if checked.ok()?.is_tls() && !cfg!(feature = "tls") {
        raw.wrong_row(
            row,
            "jwks_url",
            "a gateway with TLS for https, and this one is built without it: cargo build --release --features tls",
        );
    }
    let ca = match row.has("ca_file") {
        true => Some(read_file(raw, row, "ca_file")?),
        false => None,
    };
    if let Some(Err(error)) = ca.as_deref().map(|ca| TlsClient::new(Some(ca))) {
        raw.wrong_row(row, "ca_file", format!("a PEM file with certificates; {error}"));
    }
    Some(KeySetConfig {
        url: url.to_owned(),
        issuer: row.text("issuer").map(str::to_owned),
        audience: row.text("audience").map(str::to_owned),
        scopes: scopes(row),
        ca,
    })
}

fn read_file(raw: &RawConfig, row: &TableRow, name: &str) -> Option<Vec<u8>> {
    let path = row.text(name)?;
    let complain = |error| raw.wrong_row(row, name, format!("a file that can be read; {path:?}: {error}"));
    read_text(path.as_ref()).map_err(complain).ok()
}

/// Removes the line end that `openssl rand … > file` writes after the secret.
fn without_line_end(mut secret: Vec<u8>) -> Vec<u8> {
    let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    secret.truncate(end);
    secret
}
