//! A key that verifies tokens, with the one algorithm it is used for.

use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, DecodingKey};

/// Shortest HMAC secret: as long as the hash it feeds (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Shortest RSA modulus (RFC 7518 §3.3).
const MODULUS_BITS_MIN: usize = 2048;

/// One configured key. Its `Debug` shows no secret.
#[derive(Debug)]
pub(crate) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// Why a configured key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    /// A secret that can be guessed.
    #[error("an HS256 secret has at least {SECRET_BYTES_MIN} bytes, this one has {0}")]
    ShortSecret(usize),
    /// No PEM block with an RSA public key.
    #[error("an RS256 key is a PEM block \"PUBLIC KEY\" or \"RSA PUBLIC KEY\"")]
    NotRsaPublic,
    /// The signing half was given; it has no business on a gateway.
    #[error("this is a private key; a gateway needs only the public half (openssl rsa -pubout)")]
    Private,
    /// A modulus that can be factored.
    #[error("an RS256 key has at least {MODULUS_BITS_MIN} bits, this one has {0}")]
    ShortModulus(usize),
}

impl Key {
    /// A shared secret.
    ///
    /// # Errors
    /// When it is too short.
    pub(crate) fn hs256(kid: Option<String>, secret: &[u8]) -> Result<Self, BadKey> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(BadKey::ShortSecret(secret.len()));
        }
        Ok(Self { kid, algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) })
    }

    /// The public half of an RSA pair.
    ///
    /// # Errors
    /// When it is not one, or too short.
    pub(crate) fn rs256(kid: Option<String>, pem: &[u8]) -> Result<Self, BadKey> {
        if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
            return Err(BadKey::Private);
        }
        let decoding = DecodingKey::from_rsa_pem(pem).map_err(|_| BadKey::NotRsaPublic)?;
        let der = decoding.try_get_as_bytes().map_err(|_| BadKey::NotRsaPublic)?;
        // The library would find out at the first token, and call it a bad signature.
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
