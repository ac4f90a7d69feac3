//! The HTTP answer to a request that is refused: a status, a stable code and a helpful message.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use wire::ErrorCode;

/// Why a request is refused with an HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The code for programs.
    pub(crate) code: &'static str,
    /// The message for people.
    pub(crate) message: Cow<'static, str>,
    /// The header that the status requires.
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// An upgrade that breaks RFC 6455 §4.2.1.
    pub(crate) const fn bad_upgrade(message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "bad_upgrade", message: Cow::Borrowed(message), header: None }
    }

    /// A plain request to a path that accepts only WebSocket upgrades.
    pub(crate) fn upgrade_required() -> Self {
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            code: "upgrade_required",
            message: Cow::Borrowed(
                "this path takes only WebSocket upgrades, and there is no Upgrade header; a proxy may have removed it",
            ),
            header: Some((UPGRADE, HeaderValue::from_static("websocket"))),
        }
    }

    /// An upgrade to other protocols only.
    pub(crate) fn other_upgrade() -> Self {
        let message = "this path takes only upgrades to websocket, and the Upgrade header names other protocols";
        Self { message: Cow::Borrowed(message), ..Self::upgrade_required() }
    }

    /// A version of WebSocket other than RFC 6455's.
    pub(crate) fn websocket_version() -> Self {
        Self {
            status: StatusCode::UPGRADE_REQUIRED,
            code: "websocket_version",
            message: Cow::Borrowed("this gateway supports WebSocket version 13 (one Sec-WebSocket-Version header)"),
            header: Some((SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))),
        }
    }

    /// A path that does not exist.
    pub(crate) const fn not_found() -> Self {
        let message =
            "this path does not exist; WebSockets are at /ws and /ws/TENANT, event streams at /sse and /sse/TENANT";
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: Cow::Borrowed(message), header: None }
    }

    /// A path that does not exist on the admin port.
    pub(crate) fn no_admin_path() -> Self {
        let message = "this path does not exist on the admin port; it has /metrics, /livez, /readyz, /connections, \
                       /dead-letters, /receipts and /drain";
        Self { message: Cow::Borrowed(message), ..Self::not_found() }
    }

    /// A request to the admin port by a name that others may have pointed at it.
    pub(crate) const fn foreign_host() -> Self {
        let message = "the admin port is not answered under this host name; use its address, or list the name in \
                       admin.allowed_hosts";
        let (status, code) = (StatusCode::FORBIDDEN, "foreign_host");
        Self { status, code, message: Cow::Borrowed(message), header: None }
    }

    /// A request that a page of another site has made a browser send.
    pub(crate) const fn cross_site() -> Self {
        let message = "this is not answered to pages of other sites; enter the address, or use a program";
        Self { status: StatusCode::FORBIDDEN, code: "cross_site", message: Cow::Borrowed(message), header: None }
    }

    /// A change on the admin port that a form could have sent.
    pub(crate) const fn no_admin_header() -> Self {
        let message = "a request that changes something needs the header X-Tidegate-Admin with any value, which a \
                       form of a page cannot send";
        let (status, code) = (StatusCode::FORBIDDEN, "admin_header_required");
        Self { status, code, message: Cow::Borrowed(message), header: None }
    }

    /// A method that this path does not support.
    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            message: Cow::Borrowed("this path does not support this method; the Allow header lists the supported ones"),
            header: Some((ALLOW, HeaderValue::from_static(allowed))),
        }
    }

    /// The instance accepts no new connections. HAProxy tries another one (`retry-on 503`).
    pub(crate) fn draining() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "draining",
            message: Cow::Borrowed("this instance takes no new connections; others do"),
            header: Some((RETRY_AFTER, HeaderValue::from_static("1"))),
        }
    }

    /// The admin port answers as many requests as it can at once.
    pub(crate) fn busy() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "busy",
            message: Cow::Borrowed("too many requests are in progress on the admin port"),
            header: Some((RETRY_AFTER, HeaderValue::from_static("1"))),
        }
    }

    /// The instance has more than its share of clients. HAProxy sends this one to another instance.
    pub(crate) fn elsewhere() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "elsewhere",
            message: Cow::Borrowed("this instance has more than its share of clients; others have room"),
            header: Some((RETRY_AFTER, HeaderValue::from_static("0"))),
        }
    }

    /// A request that a development endpoint cannot use.
    pub(crate) const fn bad_request(message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "bad_request", message: Cow::Borrowed(message), header: None }
    }

    /// A request without a valid token.
    pub(crate) fn unauthorized(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        Self { status: StatusCode::UNAUTHORIZED, code: code.as_str(), message: message.into(), header }
    }

    /// A valid token that does not allow the request.
    pub(crate) fn forbidden(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code: code.as_str(), message: message.into(), header: None }
    }

    /// A request with an invalid field.
    pub(crate) fn bad_field(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: code.as_str(), message: message.into(), header: None }
    }

    /// The refusal for an error that a WebSocket client would receive in an `error` frame.
    pub(crate) fn of(code: ErrorCode, message: String) -> Self {
        match code {
            ErrorCode::WrongIdentity | ErrorCode::WrongOrigin | ErrorCode::Forbidden => Self::forbidden(code, message),
            ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::Revoked => {
                Self::unauthorized(code, message)
            }
            ErrorCode::Unavailable => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: code.as_str(),
                message: message.into(),
                header: Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            },
            _ => Self::bad_field(code, message),
        }
    }
}
