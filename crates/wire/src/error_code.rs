//! The codes of `error` frames. They are stable: a client may switch on them.

/// What went wrong, from the client's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The frame is not one JSON object of this protocol's shape.
    Malformed,
    /// The `type` is not one that clients send.
    UnknownType,
    /// A field is missing, unknown, or of the wrong kind.
    InvalidField,
    /// The channel breaks the grammar.
    InvalidChannel,
    /// The position is malformed, or the gateway never issued it.
    InvalidPosition,
    /// The token is missing, or is not valid here.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token, the session or the user was revoked.
    Revoked,
    /// The token names another tenant than the path, or another identity than the session.
    WrongIdentity,
    /// The origin of the page is not allowed.
    WrongOrigin,
    /// The token does not grant this channel.
    Forbidden,
    /// The message is larger than the limit.
    TooBig,
    /// The client sends more than the rate of its connection.
    RateLimited,
    /// The connection would have more channels than the limit allows.
    TooManyChannels,
    /// The user or the tenant would have more connections than the limit allows.
    TooManyConnections,
    /// The connection is already subscribed to this channel.
    AlreadySubscribed,
    /// The connection is not subscribed to this channel.
    NotSubscribed,
    /// The broker cannot take the message now. Nothing was stored.
    Unavailable,
    /// The broker did not answer in time. The message may or may not have been stored.
    Unknown,
    /// An error inside the gateway.
    Internal,
}

impl ErrorCode {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::UnknownType,
        Self::InvalidField,
        Self::InvalidChannel,
        Self::InvalidPosition,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::Revoked,
        Self::WrongIdentity,
        Self::WrongOrigin,
        Self::Forbidden,
        Self::TooBig,
        Self::RateLimited,
        Self::TooManyChannels,
        Self::TooManyConnections,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::Unavailable,
        Self::Unknown,
        Self::Internal,
    ];

    /// The code as it is written in the frame.
    ///
    /// ```
    /// assert_eq!(wire::ErrorCode::TooManyChannels.as_str(), "too_many_channels");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::InvalidField => "invalid_field",
            Self::InvalidChannel => "invalid_channel",
            Self::InvalidPosition => "invalid_position",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::Revoked => "revoked",
            Self::WrongIdentity => "wrong_identity",
            Self::WrongOrigin => "wrong_origin",
            Self::Forbidden => "forbidden",
            Self::TooBig => "too_big",
            Self::RateLimited => "rate_limited",
            Self::TooManyChannels => "too_many_channels",
            Self::TooManyConnections => "too_many_connections",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NotSubscribed => "not_subscribed",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Internal => "internal",
        }
    }

    /// Whether the same frame, sent again later, may succeed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::TooManyConnections | Self::Unavailable | Self::Unknown | Self::Internal
        )
    }
}
