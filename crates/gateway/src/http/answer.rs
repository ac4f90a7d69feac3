//! HTTP answers. Each ends its connection, except the one that upgrades it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE,
    UPGRADE,
};
use hyper::{Response, StatusCode};
use serde_json::json;
use wire::SUBPROTOCOL;

use crate::health::instance_state::InstanceState;
use crate::http::handshake::{ROUTING_COOKIE, RoutingCookie, Upgrade};
use crate::http::refusal::Refusal;

/// A whole answer with `Connection: close`: whoever asks again opens another connection, and nothing that
/// follows the request in the same packet is ever read as a second one.
pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    whole(status, "application/json", format!("{value}\n"))
}

/// `{"code": …, "message": …}`
pub(crate) fn refusal(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = json(refusal.status, &json!({"code": refusal.code, "message": refusal.message}));
    if let Some((name, value)) = refusal.header.clone() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The 101 of every well-formed upgrade. Of what the client offered it names `tidegate.v1` alone, so that a
/// token in the list is not sent back.
pub(super) fn switching_protocols(upgrade: &Upgrade) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&upgrade.accept).expect("base64 is a header value"));
    if upgrade.subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    if let RoutingCookie::Set(id) = upgrade.cookie {
        let cookie = format!("{ROUTING_COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/");
        headers.insert(SET_COOKIE, HeaderValue::from_str(&cookie).expect("hexadecimal digits are a header value"));
    }
    response
}

/// `/drain`: it has begun, or goes on.
pub(crate) fn draining() -> Response<Full<Bytes>> {
    json(StatusCode::ACCEPTED, &json!({"state": InstanceState::Draining.as_str()}))
}

/// `/ws/health`: 200 is "give it clients", 404 is "give it no new ones" (`http-check disable-on-404`).
pub(super) fn health(instance_state: InstanceState) -> Response<Full<Bytes>> {
    let status = if instance_state.is_ready() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    json(status, &json!({"status": instance_state.as_str()}))
}

/// `/livez`: whoever can answer lives. How well, it says too.
pub(crate) fn livez(instance_state: InstanceState) -> Response<Full<Bytes>> {
    json(StatusCode::OK, &json!({"status": "alive", "state": instance_state.as_str()}))
}

/// `/readyz`
pub(crate) fn readyz(instance_state: InstanceState) -> Response<Full<Bytes>> {
    match instance_state.is_ready() {
        true => json(StatusCode::OK, &json!({"status": "ready"})),
        false => json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": instance_state.as_str()})),
    }
}
