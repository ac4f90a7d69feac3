//! Close codes. The number alone tells a client whether to reconnect.
//!
//! 4000–4499 and 1001, 1011, 1012, 1013: reconnect with backoff, and resume. 4500–4999 and the other protocol codes of
//! RFC 6455 §7.4.1: to reconnect without a change cannot help. 1005 and 1006, which a client's own library reports,
//! also mean: reconnect.

/// The codes with which this gateway closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Close {
    /// The client closed the connection, or asked for it.
    Normal = 1000,
    /// A frame broke RFC 6455.
    ProtocolError = 1002,
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8 = 1007,
    /// A message is larger than the limit that `welcome` announces.
    TooBig = 1009,
    /// An error inside the gateway.
    Internal = 1011,
    /// This instance stops or moves the client. Other instances accept it.
    Restart = 1012,
    /// This instance has no room for the connection.
    TryAgainLater = 1013,
    /// The client read slower than its messages arrived, and its outbox was full.
    SlowConsumer = 4000,
    /// The client did not answer a ping in time.
    PingTimeout = 4001,
    /// The token expired and was not refreshed. The client reconnects with a new one.
    TokenExpired = 4002,
    /// The client sent no token within the time for `hello`.
    HelloTimeout = 4003,
    /// The client sent more frames than its rate allows, for longer than its burst.
    RateLimited = 4004,
    /// The user or the tenant already has the highest number of connections allowed.
    TooManyConnections = 4005,
    /// The token is missing, or is not valid here.
    Unauthenticated = 4500,
    /// The token belongs to another tenant than the path.
    WrongTenant = 4501,
    /// The origin of the page is not allowed.
    WrongOrigin = 4502,
    /// The client does not offer the subprotocol `tidegate.v1`.
    WrongSubprotocol = 4503,
    /// The user opened another connection, with the same session or as one more than the limit allows.
    Replaced = 4504,
    /// An operator closed the connection.
    Kicked = 4505,
    /// The token, the session or the user was revoked.
    Revoked = 4506,
}

impl Close {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 20] = [
        Self::Normal,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::TooBig,
        Self::Internal,
        Self::Restart,
        Self::TryAgainLater,
        Self::SlowConsumer,
        Self::PingTimeout,
        Self::TokenExpired,
        Self::HelloTimeout,
        Self::RateLimited,
        Self::TooManyConnections,
        Self::Unauthenticated,
        Self::WrongTenant,
        Self::WrongOrigin,
        Self::WrongSubprotocol,
        Self::Replaced,
        Self::Kicked,
        Self::Revoked,
    ];

    /// The code as it is sent.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason sent with the code, at most 123 bytes (RFC 6455 §5.5).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Normal => "bye",
            Self::ProtocolError => "protocol error",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::Internal => "internal error",
            Self::Restart => "instance is going away",
            Self::TryAgainLater => "try again later",
            Self::SlowConsumer => "reading too slowly",
            Self::PingTimeout => "no answer to ping",
            Self::TokenExpired => "token expired",
            Self::HelloTimeout => "no token in time",
            Self::RateLimited => "too many messages",
            Self::TooManyConnections => "too many connections",
            Self::Unauthenticated => "token missing or not valid",
            Self::WrongTenant => "token is for another tenant",
            Self::WrongOrigin => "origin not allowed",
            Self::WrongSubprotocol => "speak tidegate.v1",
            Self::Replaced => "connected elsewhere",
            Self::Kicked => "disconnected by an operator",
            Self::Revoked => "revoked",
        }
    }

    /// Whether a client should reconnect after `code`, regardless of who sent it.
    ///
    /// ```
    /// use wire::Close;
    /// assert!(Close::should_reconnect(Close::SlowConsumer.code()));
    /// assert!(Close::should_reconnect(1006)); // the connection ended without a close frame
    /// assert!(!Close::should_reconnect(Close::Unauthenticated.code()));
    /// ```
    #[must_use]
    pub const fn should_reconnect(code: u16) -> bool {
        matches!(code, 1001 | 1005 | 1006 | 1011..=1013 | 4000..=4499)
    }
}
