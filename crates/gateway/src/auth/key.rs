//! A key that verifies tokens, with its one algorithm.

use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::errors::Error;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

use crate::auth::mistaken_secret::MistakenSecrets;
use crate::auth::permission::Permissions;

/// Shortest HMAC secret, in bytes: the length of the hash (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const MODULUS_BITS_MIN: usize = 2048;
/// Longest RSA modulus, in bits. The library verifies with no longer one.
const MODULUS_BITS_MAX: usize = 4096;
/// Length of an Ed25519 public key, in bytes (RFC 8032 §5.1.5).
const ED25519_BYTES: usize = 32;

/// A key for tokens. Its `Debug` output shows no secret.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
    mistaken: MistakenSecrets,
    /// The scopes that tokens of this key may have.
    permissions: Permissions,
}

/// The reason why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    /// The secret is short enough to be guessed.
    #[error("an HS256 secret has at least {SECRET_BYTES_MIN} bytes, this one has {0}")]
    ShortSecret(usize),
    /// The file has no PEM block with an RSA public key.
    #[error("an RS256 key is a PEM block \"PUBLIC KEY\" or \"RSA PUBLIC KEY\"")]
    NotRsaPublic,
    /// The file has no PEM block with a public key of this curve.
    #[error("an {0} key is a PEM block \"PUBLIC KEY\" with a key of the curve {1}")]
    NotOnCurve(&'static str, &'static str),
    /// The file has the private key, which a gateway does not need.
    #[error("this is a private key; a gateway needs only the public half (openssl pkey -pubout)")]
    Private,
    /// The modulus is short enough to be factored.
    #[error("an RS256 key has at least {MODULUS_BITS_MIN} bits, this one has {0}")]
    ShortModulus(usize),
    /// The modulus is too long for the library.
    #[error("an RS256 key has at most {MODULUS_BITS_MAX} bits, this one has {0}")]
    LongModulus(usize),
    /// A key of a key set that is not for tokens of the supported algorithms.
    #[error("this key is not for signatures with RS256, ES256 or EdDSA")]
    Unsupported,
}

impl Key {
    /// Creates a key from a shared secret.
    ///
    /// # Errors
    /// If the secret is too short.
    pub(crate) fn hs256(kid: Option<String>, secret: &[u8]) -> Result<Self, BadKey> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(BadKey::ShortSecret(secret.len()));
        }
        let mistaken = MistakenSecrets::of(secret);
        let decoding = DecodingKey::from_secret(secret);
        Ok(Self { kid, algorithm: Algorithm::HS256, decoding, mistaken, permissions: Permissions::NONE })
    }

    /// Creates a key from the public half of an RSA key pair.
    ///
    /// # Errors
    /// If the PEM is not an RSA public key, or the key is too short or too long.
    pub(crate) fn rs256(kid: Option<String>, pem: &[u8]) -> Result<Self, BadKey> {
        let decoding = from_pem(pem, DecodingKey::from_rsa_pem, BadKey::NotRsaPublic)?;
        check_modulus(&decoding)?;
        Ok(Self::public(kid, Algorithm::RS256, decoding))
    }

    /// Creates a key from the public half of a key pair on the curve P-256.
    ///
    /// # Errors
    /// If the PEM is not the public key of a point on this curve.
    pub(crate) fn es256(kid: Option<String>, pem: &[u8]) -> Result<Self, BadKey> {
        let bad = BadKey::NotOnCurve("ES256", "P-256");
        let decoding = from_pem(pem, DecodingKey::from_ec_pem, bad.clone())?;
        check_point(&decoding, Algorithm::ES256, bad)?;
        Ok(Self::public(kid, Algorithm::ES256, decoding))
    }

    /// Creates a key from the public half of an Ed25519 key pair.
    ///
    /// # Errors
    /// If the PEM is not the public key of a point on this curve.
    pub(crate) fn eddsa(kid: Option<String>, pem: &[u8]) -> Result<Self, BadKey> {
        let bad = BadKey::NotOnCurve("EdDSA", "Ed25519");
        let decoding = from_pem(pem, DecodingKey::from_ed_pem, bad.clone())?;
        check_point(&decoding, Algorithm::EdDSA, bad)?;
        Ok(Self::public(kid, Algorithm::EdDSA, decoding))
    }

    /// Creates a key from one of a published key set (RFC 7517). Its type and curve determine its algorithm. A shared
    /// secret in a published set is no secret, and is refused.
    ///
    /// # Errors
    /// If the key is not for signatures, is for another algorithm, or is damaged.
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self, BadKey> {
        if jwk.common.public_key_use.as_ref().is_some_and(|public_use| *public_use != PublicKeyUse::Signature) {
            return Err(BadKey::Unsupported);
        }
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return Err(BadKey::Unsupported),
        };
        if jwk.common.key_algorithm.is_some_and(|own| own != named) {
            return Err(BadKey::Unsupported);
        }
        let decoding = DecodingKey::from_jwk(jwk).map_err(|_| BadKey::Unsupported)?;
        match algorithm {
            Algorithm::RS256 => check_modulus(&decoding)?,
            _ => check_point(&decoding, algorithm, BadKey::Unsupported)?,
        }
        Ok(Self::public(jwk.common.key_id.clone(), algorithm, decoding))
    }

    fn public(kid: Option<String>, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        Self { kid, algorithm, decoding, mistaken: MistakenSecrets::default(), permissions: Permissions::NONE }
    }

    /// The same key, whose tokens may have these scopes.
    pub(crate) fn permitting(self, permissions: Permissions) -> Self {
        Self { permissions, ..self }
    }

    pub(crate) fn permissions(&self) -> Permissions {
        self.permissions
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(crate) fn mistaken(&self) -> &MistakenSecrets {
        &self.mistaken
    }
}

fn from_pem(pem: &[u8], read: fn(&[u8]) -> Result<DecodingKey, Error>, bad: BadKey) -> Result<DecodingKey, BadKey> {
    if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
        return Err(BadKey::Private);
    }
    read(pem).map_err(|_| bad)
}

/// Without this check the library would report a bad signature at the first token.
fn check_modulus(decoding: &DecodingKey) -> Result<(), BadKey> {
    let components = rust_crypto::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
    let from_der;
    let modulus = match decoding.kind() {
        DecodingKeyKind::SecretOrDer(der) => {
            from_der = components(der).map_err(|_| BadKey::NotRsaPublic)?.0;
            &from_der
        }
        DecodingKeyKind::RsaModulusExponent { n, .. } => n,
    };
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &modulus[zeros..];
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match bits {
        ..MODULUS_BITS_MIN => Err(BadKey::ShortModulus(bits)),
        MODULUS_BITS_MIN..=MODULUS_BITS_MAX => Ok(()),
        _ => Err(BadKey::LongModulus(bits)),
    }
}

/// Checks that the library can verify with the key: that it is a point on the curve of the algorithm.
fn check_point(decoding: &DecodingKey, algorithm: Algorithm, bad: BadKey) -> Result<(), BadKey> {
    let bytes = decoding.try_get_as_bytes().map_err(|_| bad.clone())?;
    // The library expects this length, and would panic for a shorter key.
    if algorithm == Algorithm::EdDSA && bytes.len() != ED25519_BYTES {
        return Err(bad);
    }
    jsonwebtoken::crypto::verify("", b"", decoding, algorithm).map(drop).map_err(|_| bad)
}
