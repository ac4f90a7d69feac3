//! Secrets that signers use by mistake instead of the configured one, so that an error can name the mistake.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};

/// The mistake that a signer has made with its secret. It is shown only to those who know the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretMistake {
    /// The signer has read the secret's file with its line end.
    #[error("the line end of its file is not part of the secret; remove it in the signer")]
    LineEnd,
    /// The signer has read the secret's file with its byte order mark.
    #[error("the byte order mark of its file is not part of the secret; remove it in the signer")]
    ByteOrderMark,
    /// The signer has decoded the secret from hexadecimal or from Base64.
    #[error("the secret is used as it is written, not decoded from hexadecimal or Base64")]
    Decoded,
}

/// What a signer may have made of one secret.
#[derive(Debug, Clone, Default)]
pub(crate) struct MistakenSecrets(Vec<(SecretMistake, DecodingKey)>);

impl MistakenSecrets {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let with = |before: &[u8], after: &[u8]| [before, secret, after].concat();
        let mut mistaken = vec![
            (SecretMistake::LineEnd, with(b"", b"\n")),
            (SecretMistake::LineEnd, with(b"", b"\r\n")),
            (SecretMistake::ByteOrderMark, with(BYTE_ORDER_MARK, b"")),
        ];
        let base64 = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|d| d.decode(secret).ok());
        mistaken.extend(base64.into_iter().chain(from_hex(secret)).map(|secret| (SecretMistake::Decoded, secret)));
        Self(mistaken.into_iter().map(|(mistake, secret)| (mistake, DecodingKey::from_secret(&secret))).collect())
    }

    /// The mistake that explains a token whose signature does not verify.
    pub(crate) fn explain(&self, token: &str) -> Option<SecretMistake> {
        let (message, signature) = token.rsplit_once('.')?;
        let signs = |key| jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::HS256);
        self.0.iter().find(|(_, key)| signs(key).is_ok_and(|verified| verified)).map(|(mistake, _)| *mistake)
    }
}

/// U+FEFF in UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() % 2 == 1 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.chunks(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}
