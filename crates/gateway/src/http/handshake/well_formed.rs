//! Checks that a request is a WebSocket upgrade (RFC 6455 §4.2.1). The checks are strict: requests can be smuggled if
//! the gateway and a proxy before it read the same request differently.

use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Version};

use crate::http::refusal::Refusal;
use crate::transport::websocket::codec::accept_key;

/// Headers that may occur only once. `Connection` and `Sec-WebSocket-Protocol` are lists and may be split.
const SINGLE: [(HeaderName, &str); 6] = [
    (HOST, "an upgrade must have one Host header"),
    (UPGRADE, "an upgrade must have one Upgrade header"),
    (SEC_WEBSOCKET_KEY, "an upgrade must have one Sec-WebSocket-Key header"),
    (SEC_WEBSOCKET_VERSION, "an upgrade must have one Sec-WebSocket-Version header"),
    (ORIGIN, "an upgrade must have at most one Origin header"),
    (AUTHORIZATION, "an upgrade must have at most one Authorization header"),
];

/// Checks a request and returns the value of `Sec-WebSocket-Accept`.
pub(super) fn check<B>(request: &Request<B>) -> Result<String, Refusal> {
    let headers = request.headers();
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::bad_upgrade("an upgrade must be an HTTP/1.1 request"));
    }
    if headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::bad_upgrade(
            "an upgrade must not have a body: no Transfer-Encoding and no Content-Length",
        ));
    }
    for (name, message) in SINGLE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Refusal::bad_upgrade(message));
        }
    }
    if !headers.contains_key(HOST) {
        return Err(Refusal::bad_upgrade("an upgrade must have one Host header"));
    }
    match text(headers, &UPGRADE) {
        None if !headers.contains_key(UPGRADE) => return Err(Refusal::upgrade_required()),
        Some(upgrade) if upgrade.eq_ignore_ascii_case("websocket") => {}
        _ => return Err(Refusal::bad_upgrade("the Upgrade header must be websocket")),
    }
    let tokens = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    if !tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade")) {
        return Err(Refusal::bad_upgrade("the Connection header must contain Upgrade; a proxy may have removed it"));
    }
    if text(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::websocket_version());
    }
    text(headers, &SEC_WEBSOCKET_KEY)
        .and_then(accept_key)
        .ok_or(Refusal::bad_upgrade("Sec-WebSocket-Key must be 16 bytes in base64, 24 characters"))
}

fn text<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Option<&'r str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
