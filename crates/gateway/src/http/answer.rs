//! HTTP answers. Each ends its connection, except the 101 of an upgrade.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::json;
use wire::{ErrorCode, SUBPROTOCOL, ServerFrame};

use crate::health::instance_state::InstanceState;
use crate::http::cors::Cors;
use crate::http::handshake::Upgrade;
use crate::http::refusal::Refusal;
use crate::protocol::event_stream;

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A complete answer with `Connection: close`. The next request needs another connection. So bytes that follow the
/// request in the same packet are never read as a second request.
pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // A page of another site must not read an answer by including it as a script, a style sheet or an image.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    whole(status, "application/json", format!("{value}\n"))
}

/// The JSON body is `{"code": …, "message": …}`.
pub(crate) fn refusal(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = json(refusal.status, &json!({"code": refusal.code, "message": refusal.message}));
    if let Some((name, value)) = refusal.header.clone() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The 101 of every well-formed upgrade. It repeats only `tidegate.v1` of the offered subprotocols, so that a token in
/// the list is not sent back.
pub(super) fn switching_protocols(upgrade: &Upgrade, cookie: Option<HeaderValue>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&upgrade.accept).expect("base64 is a header value"));
    if upgrade.subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    set_cookie(headers, cookie);
    response
}

/// Adds `Set-Cookie`, if the client gets a new routing cookie.
fn set_cookie(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    headers.extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
}

/// Headers of an event stream. Caches must not store it, and proxies must not change or buffer it.
const EVENT_STREAM_HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_TYPE, "text/event-stream"),
    (CACHE_CONTROL, "no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
    (CONNECTION, "close"),
];

fn event_stream_headers(cookie: Option<HeaderValue>) -> HeaderMap {
    let mut headers =
        HeaderMap::from_iter(EVENT_STREAM_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    set_cookie(&mut headers, cookie);
    headers
}

/// The head of an event stream. The stream ends with its connection (RFC 9112 §6.3), so a proxy has no length to wait
/// for.
pub(super) fn event_stream_head(cookie: Option<HeaderValue>, cors: Option<Cors>) -> Vec<u8> {
    let mut headers = event_stream_headers(cookie);
    let date = httpdate::fmt_http_date(SystemTime::now());
    headers.insert(DATE, HeaderValue::from_str(&date).expect("a date is a header value"));
    if let Some(cors) = cors {
        cors.allow(&mut headers);
    }
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// An event stream that says why it ends, and when to reconnect. Browsers reconnect after no other status. Only this
/// 200 has `Retry-After`: it tells a balancer to send the client to another instance next.
pub(super) fn come_back(message: &str, after_ms: u64, cookie: Option<HeaderValue>) -> Response<Full<Bytes>> {
    let error = ServerFrame::Error {
        code: ErrorCode::Unavailable,
        message: message.into(),
        channel: None,
        retry_after_ms: Some(after_ms),
        correlation_id: None,
    };
    let mut response =
        Response::new(Full::new(Bytes::copy_from_slice(event_stream::bytes(&event_stream::reply(&error)))));
    *response.headers_mut() = event_stream_headers(cookie);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after_ms.div_ceil(1_000)));
    response
}

/// The answer to a preflight: whether a page of another origin may open an event stream with its own headers.
pub(super) fn preflight(cors: Option<Cors>) -> Response<Full<Bytes>> {
    let mut response = whole(StatusCode::NO_CONTENT, "text/plain", "");
    if let Some(cors) = cors {
        cors.allow_requests(response.headers_mut());
    }
    response
}

/// The answer of `/drain`: the drain has begun, or continues.
pub(crate) fn draining() -> Response<Full<Bytes>> {
    json(StatusCode::ACCEPTED, &json!({"state": InstanceState::Draining.as_str()}))
}

/// The answer of `/ws/health`: 200 means "send clients", 404 means "send no new clients" (`http-check disable-on-404`).
pub(super) fn health(instance_state: InstanceState) -> Response<Full<Bytes>> {
    let status = if instance_state.is_ready() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    json(status, &json!({"status": instance_state.as_str()}))
}

/// The answer of `/livez`: an instance that can answer is alive. The body has its state, and `reason` if the broker is
/// not up.
pub(crate) fn livez(instance_state: InstanceState, reason: Option<&str>) -> Response<Full<Bytes>> {
    json(StatusCode::OK, &with_reason(json!({"status": "alive", "state": instance_state.as_str()}), reason))
}

/// The answer of `/readyz`: 200 if the instance is ready, otherwise 503. The body has `reason` if the broker is not up.
pub(crate) fn readyz(instance_state: InstanceState, reason: Option<&str>) -> Response<Full<Bytes>> {
    match instance_state.is_ready() {
        true => json(StatusCode::OK, &with_reason(json!({"status": "ready"}), reason)),
        false => {
            let status = json!({"status": instance_state.as_str()});
            json(StatusCode::SERVICE_UNAVAILABLE, &with_reason(status, reason))
        }
    }
}

fn with_reason(mut body: serde_json::Value, reason: Option<&str>) -> serde_json::Value {
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    body
}
