//! A key that verifies tokens, with its one algorithm.

use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, DecodingKey};

/// Shortest HMAC secret, in bytes: the length of the hash (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const MODULUS_BITS_MIN: usize = 2048;

/// A configured key. Its `Debug` output shows no secret.
#[derive(Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// The reason why a configured key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    /// The secret is short enough to be guessed.
    #[error("an HS256 secret has at least {SECRET_BYTES_MIN} bytes, this one has {0}")]
    ShortSecret(usize),
    /// The file has no PEM block with an RSA public key.
    #[error("an RS256 key is a PEM block \"PUBLIC KEY\" or \"RSA PUBLIC KEY\"")]
    NotRsaPublic,
    /// The file has the private key, which a gateway does not need.
    #[error("this is a private key; a gateway needs only the public half (openssl rsa -pubout)")]
    Private,
    /// The modulus is short enough to be factored.
    #[error("an RS256 key has at least {MODULUS_BITS_MIN} bits, this one has {0}")]
    ShortModulus(usize),
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
        Ok(Self { kid, algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) })
    }

    /// Creates a key from the public half of an RSA key pair.
    ///
    /// # Errors
    /// If the PEM is not an RSA public key, or the key is too short.
    pub(crate) fn rs256(kid: Option<String>, pem: &[u8]) -> Result<Self, BadKey> {
        if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
            return Err(BadKey::Private);
        }
        let decoding = DecodingKey::from_rsa_pem(pem).map_err(|_| BadKey::NotRsaPublic)?;
        let der = decoding.try_get_as_bytes().map_err(|_| BadKey::NotRsaPublic)?;
        // Without this check the library would report a bad signature at the first token.
        let components = rust_crypto::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
        let (modulus, _) = components(der).map_err(|_| BadKey::NotRsaPublic)?;
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if bits < MODULUS_BITS_MIN {
            return Err(BadKey::ShortModulus(bits));
        }
        Ok(Self { kid, algorithm: Algorithm::RS256, decoding })
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}
