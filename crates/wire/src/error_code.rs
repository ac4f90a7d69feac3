//! The codes of `error` frames. Stable: a client may switch on them.

/// What went wrong, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not one JSON object of this protocol's shape.
    Malformed,
    /// A `type` that clients do not send.
    UnknownType,
    /// A field is missing, unknown, or of the wrong kind.
    InvalidField,
    /// A channel that breaks the grammar.
    InvalidChannel,
    /// A position that was never handed out.
    InvalidPosition,
    /// No token, or none that is valid here.
    Unauthenticated,
    /// The token has expired.
    TokenExpired,
    /// The token names another tenant than the path, or another identity than the session.
    WrongIdentity,
    /// The page's origin is not allowed.
    WrongOrigin,
    /// The token does not grant this channel.
    Forbidden,
    /// A message above the limit.
    TooBig,
    /// More than the connection's rate.
    RateLimited,
    /// More channels than one connection may hold.
    TooManyChannels,
    /// More connections than its user or tenant may have.
    TooManyConnections,
    /// The connection holds this channel already.
    AlreadySubscribed,
    /// The connection does not hold this channel.
    NotSubscribed,
    /// The broker cannot take it now. Nothing was stored.
    Unavailable,
    /// The broker did not answer in time: the message may or may not have been stored.
    Unknown,
    /// The fault is ours.
    Internal,
}

impl ErrorCode {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::UnknownType,
        Self::InvalidField,
        Self::InvalidChannel,
        Self::InvalidPosition,
        Self::Unauthenticated,
        Self::TokenExpired,
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

    /// The code as it stands in the frame.
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
