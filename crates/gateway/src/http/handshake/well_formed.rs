//! Checks that a request is a WebSocket upgrade (RFC 6455 §4.2.1). The checks are strict: requests can be smuggled if
//! the gateway and a proxy before it read the same request differently.

use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Version};

use crate::http::fields::{announces_body, elements, has_element, only};
use crate::http::refusal::Refusal;
use crate::transport::websocket::codec::accept_key;

/// Headers that may occur only once. `Connection`, `Upgrade` and `Sec-WebSocket-Protocol` are lists and may be split.
const SINGLE: [(HeaderName, &str); 5] = [
    (HOST, "an upgrade must have one Host header"),
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
    if announces_body(headers) {
        return Err(Refusal::bad_upgrade(
            "an upgrade must not have a body: no Transfer-Encoding, and no Content-Length other than 0",
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
    // A client may offer other protocols beside this one.
    if !has_element(headers, &UPGRADE, "websocket") {
        let offers_any = elements(headers, &UPGRADE).next().is_some();
        return Err(if offers_any { Refusal::other_upgrade() } else { Refusal::upgrade_required() });
    }
    if !has_element(headers, &CONNECTION, "upgrade") {
        return Err(Refusal::bad_upgrade("the Connection header must contain Upgrade; a proxy may have removed it"));
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(Refusal::websocket_version());
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).and_then(|key| str::from_utf8(key).ok());
    key.and_then(accept_key).ok_or(Refusal::bad_upgrade("Sec-WebSocket-Key must be 16 bytes in base64, 24 characters"))
}
