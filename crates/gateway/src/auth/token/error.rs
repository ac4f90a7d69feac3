//! The reasons why a token is refused.

use jsonwebtoken::errors::ErrorKind;
use wire::{Close, ErrorCode, PRESENCE_INFO_BYTES_MAX, TOKEN_BYTES_MAX};

use crate::auth::grants::BadGrant;
use crate::auth::mistaken_secret::SecretMistake;

/// A fetch of keys has ended after this time, as a rule.
const FETCH_MS: u64 = 2_000;

/// The reason why a token is refused. The message is sent to the client; none repeats the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The token is longer than [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three base64url parts with a JSON header, or a header without a known algorithm.
    #[error("a token is a signed JWT: header.claims.signature, signed with HS256, RS256, ES256 or EdDSA")]
    Malformed,
    /// The header has `jwk`, `jku`, `x5c` or `x5u`: the token brings its own key.
    #[error("a token must not bring its own key (jwk, jku, x5c, x5u); keys are configured by kid")]
    KeyInHeader,
    /// The header has `crit`: it requires extensions, and none is supported (RFC 7515 §4.1.11).
    #[error("the token's header requires extensions (crit), which this gateway does not support")]
    Critical,
    /// The header's `typ` is not the configured type.
    #[error("the token's type (typ) is not the configured type")]
    WrongType,
    /// No configured key has this `kid`.
    #[error("the token's kid matches no configured key")]
    UnknownKey,
    /// The keys of the issuer have to be fetched first.
    #[error("the keys of the token's issuer are being fetched; come back in a moment")]
    KeysPending,
    /// No key found by `kid` has the header's algorithm.
    #[error("the token's algorithm differs from that of its key")]
    WrongAlgorithm,
    /// No key verifies the signature.
    #[error("the token's signature does not verify with the configured key")]
    BadSignature,
    /// A secret verifies the signature that differs from the configured one by a known mistake.
    #[error("the token's signature does not verify with the configured key: {0}")]
    MistakenSecret(SecretMistake),
    /// The claims are not a JSON object, or a claim occurs twice.
    #[error("the token's claims are not a JSON object in which each claim occurs once")]
    BadClaims,
    /// A claim has another type than the documented one.
    #[error("the token's {0} claim is not {1}")]
    BadClaim(Box<str>, &'static str),
    /// A required claim is missing.
    #[error("the token has no {0} claim")]
    MissingClaim(Box<str>),
    /// The tenant or the user is not a valid name.
    #[error(
        "the token's {0} claim cannot be used in channel names: {1} (auth.user_claim selects another claim, and \
         auth.escape_users escapes the user's)"
    )]
    BadName(Box<str>, wire::BadName),
    /// A grant is not valid.
    #[error("the token's {0} claim: {1}")]
    BadGrant(&'static str, BadGrant),
    /// The presence info is longer than the gateway sends to other members.
    #[error("the token's info claim has more than {PRESENCE_INFO_BYTES_MAX} bytes")]
    LongInfo,
    /// `iss` is not the configured issuer.
    #[error("the token's issuer (iss) is not the configured issuer")]
    WrongIssuer,
    /// `aud` is not the configured audience, or the token has an `aud` and no audience is configured.
    #[error("the token is for another audience (aud) than this gateway")]
    WrongAudience,
    /// The time of `exp` plus the leeway has passed.
    #[error("the token has expired; send a new one")]
    Expired,
    /// The token, its session or its user is revoked.
    #[error("the token is revoked; get another one")]
    Revoked,
    /// `nbf` is in the future.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
    /// A time is in a smaller unit than seconds.
    #[error("the token's {0} claim is not in seconds since 1970, and looks like milliseconds")]
    NotSeconds(&'static str),
    /// The token is valid for longer than the configured lifetime.
    #[error("the token is valid for longer than the {0} seconds that this gateway accepts (auth.lifetime_s_max)")]
    LongLifetime(u64),
}

impl TokenError {
    /// The error of the library.
    pub(super) fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::BadSignature,
            ErrorKind::InvalidIssuer => Self::WrongIssuer,
            ErrorKind::InvalidAudience => Self::WrongAudience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Self::MissingClaim("iss".into()),
            ErrorKind::MissingRequiredClaim(_) => Self::MissingClaim("aud".into()),
            // The library also reports a broken signature part as a base64 or UTF-8 error.
            ErrorKind::Base64(_) | ErrorKind::Utf8(_) | ErrorKind::InvalidToken => Self::Malformed,
            ErrorKind::InvalidAlgorithm => Self::WrongAlgorithm,
            _ => Self::BadClaims,
        }
    }

    /// Whether another key could verify the token.
    pub(super) fn is_about_key(&self) -> bool {
        matches!(self, Self::UnknownKey | Self::WrongAlgorithm | Self::BadSignature | Self::MistakenSecret(_))
    }

    /// The error code of the `error` frame.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::TokenExpired,
            Self::Revoked => ErrorCode::Revoked,
            Self::KeysPending => ErrorCode::Unavailable,
            _ => ErrorCode::Unauthenticated,
        }
    }

    /// The time after which the client may send the token again, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        matches!(self, Self::KeysPending).then_some(FETCH_MS)
    }

    /// The close code of the close frame that follows.
    pub(crate) fn close(&self) -> Close {
        match self {
            Self::Expired => Close::TokenExpired,
            Self::Revoked => Close::Revoked,
            Self::KeysPending => Close::TryAgainLater,
            _ => Close::Unauthenticated,
        }
    }
}
