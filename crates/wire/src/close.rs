//! Close codes. The number alone tells a client whether to come back.
//!
//! 4000–4499 and 1001, 1011, 1012, 1013: come back, with backoff, and resume. 4500–4999 and the other
//! protocol codes of RFC 6455 §7.4.1: coming back unchanged cannot help.

/// Every code with which this gateway closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Close {
    /// The client asked for it.
    Normal = 1000,
    /// A frame broke RFC 6455.
    ProtocolError = 1002,
    /// Text that is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8 = 1007,
    /// A message above the limit announced in `welcome`.
    TooBig = 1009,
    /// The fault is ours.
    Internal = 1011,
    /// This instance is going away; others are there.
    Restart = 1012,
    /// This instance has no room.
    TryAgainLater = 1013,
    /// The client read slower than its messages arrived, and its outbox was full.
    SlowConsumer = 4000,
    /// No answer to a ping in time.
    PingTimeout = 4001,
    /// The token expired and was not refreshed: come back with a new one.
    TokenExpired = 4002,
    /// No token within the time `hello` may take.
    HelloTimeout = 4003,
    /// More frames than the connection's rate, for longer than its burst.
    RateLimited = 4004,
    /// Its user or tenant has as many connections as it may.
    TooManyConnections = 4005,
    /// No token, or one that is not valid here.
    Unauthenticated = 4500,
    /// The token belongs to another tenant than the path.
    WrongTenant = 4501,
    /// The page's origin is not allowed.
    WrongOrigin = 4502,
    /// The client does not speak `tidegate.v1`.
    WrongSubprotocol = 4503,
    /// Its user has connected elsewhere, with the same session or with one more than it may have.
    Replaced = 4504,
    /// An operator closed it.
    Kicked = 4505,
}

impl Close {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 19] = [
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
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason sent with it, at most 123 bytes (RFC 6455 §5.5).
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
        }
    }

    /// Whether a client should come back after `code`, whoever sent it.
    ///
    /// ```
    /// use wire::Close;
    /// assert!(Close::should_reconnect(Close::SlowConsumer.code()));
    /// assert!(Close::should_reconnect(1006)); // the connection just ended
    /// assert!(!Close::should_reconnect(Close::Unauthenticated.code()));
    /// ```
    #[must_use]
    pub const fn should_reconnect(code: u16) -> bool {
        matches!(code, 1001 | 1005 | 1006 | 1011..=1013 | 4000..=4499)
    }
}
