//! Requests by table; no socket.

use std::pin::Pin;
use std::task::{Context, Waker};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Version};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::auth::key_set::parse;
use crate::auth::signed::{ED25519_PRIVATE, KEY_SET_TIMES, NOW, claims, curve, hs256, jwk_of, key_set, verifier, with};
use crate::config::{Origins, Paths, Secure};
use crate::host::reloadable::Reloadable;

const PAGE: &str = "https://app.example.com";

fn handshake(any: bool) -> Handshake {
    allowing(Origins { any, exact: vec![PAGE.into()], ..Origins::default() })
}

fn allowing(allowed_origins: Origins) -> Handshake {
    let session_cookie = SessionCookie { name: Some("tidegate_session".into()), secure: Secure::Auto };
    let http = HttpConfig { allowed_origins, session_cookie, paths: Paths::default() };
    Handshake::new(
        Reloadable::new(verifier()),
        Reloadable::new(http.allowed_origins.clone().into()),
        &http,
        "tidegate_token".into(),
    )
}

/// A well-formed upgrade, changed by `headers`: `+name` adds a line, `-name` takes all away, `name` replaces.
fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .uri(uri)
        .header("host", "gw.example.com")
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        let parsed = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        match name.split_at(1) {
            ("+", name) => drop(request.headers_mut().append(parsed(name), value)),
            ("-", name) => drop(request.headers_mut().remove(parsed(name))),
            _ => drop(request.headers_mut().insert(parsed(name), value)),
        }
    }
    request
}

fn decide(request: &Request<()>) -> Result<Upgrade, Refusal> {
    handshake(false).decide(request, None, NOW, SessionId::from_random(7))
}

fn open(uri: &str, headers: &[(&str, &str)]) -> Opening {
    decide(&request(uri, headers)).unwrap().opening
}

#[track_caller]
fn assert_user(opening: &Opening, user: &str) {
    assert!(matches!(opening, Opening::Authenticated(identity) if identity.user.as_str() == user), "{opening:?}");
}

#[track_caller]
fn assert_refused(opening: &Opening, code: ErrorCode, close: Close) {
    assert!(matches!(opening, Opening::Refused { code: c, close: k, .. } if (*c, *k) == (code, close)), "{opening:?}");
}

#[test]
fn a_plain_upgrade_waits_for_hello() {
    let upgrade = decide(&request("/ws", &[])).unwrap();
    assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(!upgrade.subprotocol);
    assert_eq!(upgrade.cookie, RoutingCookie::Set(SessionId::from_random(7)));
    assert!(matches!(upgrade.opening, Opening::AwaitHello));
}

#[test]
fn what_is_malformed_gets_a_status() {
    for (status, headers) in [
        (400, &[("-host", "")][..]),
        (400, &[("+host", "evil.example")]),
        (426, &[("-upgrade", "")]),
        (426, &[("upgrade", "")]),
        (426, &[("upgrade", "h2c")]),
        (426, &[("upgrade", "websockets, web socket")]),
        (400, &[("-connection", "")]),
        (400, &[("connection", "keep-alive")]),
        (400, &[("connection", "upgraded")]),
        (400, &[("-sec-websocket-key", "")]),
        (400, &[("sec-websocket-key", "dG9vIHNob3J0")]),
        (400, &[("sec-websocket-key", "not base64 at all!!!!!!!")]),
        (400, &[("+sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]),
        (426, &[("-sec-websocket-version", "")]),
        (426, &[("sec-websocket-version", "8")]),
        (426, &[("sec-websocket-version", "013")]),
        (400, &[("+sec-websocket-version", "13")]),
        (400, &[("content-length", "5")]),
        (400, &[("content-length", "0"), ("+content-length", "5")]),
        (400, &[("transfer-encoding", "chunked")]),
        (400, &[("content-length", "0"), ("transfer-encoding", "chunked")]),
        (400, &[("content-length", "5"), ("transfer-encoding", "chunked")]),
        (400, &[("origin", PAGE), ("+origin", PAGE)]),
        (400, &[("authorization", "Bearer a"), ("+authorization", "Bearer b")]),
    ] {
        let refusal = decide(&request("/ws", headers)).expect_err(&format!("{headers:?}"));
        assert_eq!(refusal.status.as_u16(), status, "{headers:?}: {}", refusal.message);
    }
    let mut old = request("/ws", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(decide(&old).unwrap_err().status, StatusCode::BAD_REQUEST);
    let version = decide(&request("/ws", &[("sec-websocket-version", "8")])).unwrap_err();
    assert_eq!(
        version.header.unwrap(),
        (HeaderName::from_static("sec-websocket-version"), HeaderValue::from_static("13"))
    );
    assert_eq!(request("/ws", &[]).method(), Method::GET); // Other methods do not come here: see `edge::route`.
}

#[test]
fn what_browsers_and_proxies_write_is_well_formed() {
    for headers in [
        &[("connection", "keep-alive, Upgrade")][..],
        &[("connection", "keep-alive"), ("+connection", "upgrade")],
        &[("connection", "Upgrade, HTTP2-Settings, close")],
        &[("upgrade", "WebSocket")],
        &[("upgrade", "websocket, h2c")],
        &[("upgrade", "h2c,websocket")],
        &[("upgrade", "TLS/1.0"), ("+upgrade", "websocket")],
        &[("content-length", "0")],
        &[("expect", "100-continue")],
        &[("te", "trailers")],
        &[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")],
    ] {
        assert!(decide(&request("/ws", headers)).is_ok(), "{headers:?}");
    }
}

#[test]
fn a_token_may_stand_in_each_of_its_places() {
    let token = hs256(&claims("alice"));
    assert_user(&open("/ws", &[("authorization", &format!("Bearer {token}"))]), "alice");
    assert_user(&open("/ws", &[("authorization", &format!("bearer  {token}"))]), "alice");
    let offers = format!("tidegate.v1, tidegate.token.{token}");
    assert_user(&open("/ws", &[("sec-websocket-protocol", &offers)]), "alice");
    let offer = format!("tidegate.token.{token}");
    assert_user(
        &open("/ws", &[("sec-websocket-protocol", "tidegate.v1"), ("+sec-websocket-protocol", &offer)]),
        "alice",
    );
    let cookie = format!("theme=dark; tidegate_token={token}; x=y");
    assert_user(&open("/ws", &[("origin", PAGE), ("cookie", &cookie)]), "alice");
    // The same token twice says one thing; a password for something else says nothing.
    assert_user(
        &open("/ws", &[("authorization", &format!("Bearer {token}")), ("sec-websocket-protocol", &offers)]),
        "alice",
    );
    assert!(matches!(open("/ws", &[("authorization", "Basic dXNlcjpwYXNz")]), Opening::AwaitHello));
}

/// Cookies and subprotocols of other programs in UTF-8, in Latin-1, and with quotation marks.
#[test]
fn foreign_parts_of_a_list_do_not_hide_the_token() {
    let token = hs256(&claims("alice"));
    let with_bytes = |name: &'static str, value: Vec<u8>| {
        let mut request = request("/ws", &[("origin", PAGE)]);
        request.headers_mut().insert(name, HeaderValue::from_bytes(&value).unwrap());
        decide(&request).unwrap()
    };
    for name in ["Jos\u{e9}".as_bytes(), b"Jos\xe9", b"\xf0\x9f\x91\x8b", b"\"a b\""] {
        for (before, after) in [(&b"name="[..], &b"; "[..]), (b"x=y; name=", b";")] {
            let cookie = [before, name, after, b"tidegate_token=", token.as_bytes()].concat();
            assert_user(&with_bytes("cookie", cookie).opening, "alice");
            let cookie = [b"tidegate_token=", token.as_bytes(), b"; ", before, name].concat();
            assert_user(&with_bytes("cookie", cookie).opening, "alice");
        }
        let offers = [name, b", tidegate.v1, tidegate.token.", token.as_bytes()].concat();
        let upgrade = with_bytes("sec-websocket-protocol", offers);
        assert!(upgrade.subprotocol);
        assert_user(&upgrade.opening, "alice");
        let lists = [b"keep-alive, ", name, b", Upgrade"].concat();
        assert!(matches!(with_bytes("connection", lists).opening, Opening::AwaitHello));
    }
    let quoted = format!("theme=dark; tidegate_token=\"{token}\"");
    assert_user(&open("/ws", &[("origin", PAGE), ("cookie", &quoted)]), "alice");
    // An application has cleared its cookie, and says hello.
    for cleared in ["tidegate_token=", "tidegate_token=\"\"; x=y"] {
        assert!(matches!(open("/ws", &[("origin", PAGE), ("cookie", cleared)]), Opening::AwaitHello), "{cleared}");
    }
}

/// Silence until the timeout would not say why.
#[test]
fn a_token_that_cannot_be_read_is_refused_and_not_passed_over() {
    let with_bytes = |name: &'static str, value: &[u8]| {
        let mut request = request("/ws", &[("origin", PAGE)]);
        request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
        decide(&request).unwrap().opening
    };
    for (name, value) in [
        ("authorization", &b"Bearer caf\xe9"[..]),
        ("authorization", "Bearer caf\u{e9}".as_bytes()),
        ("authorization", b"Bearer"),
        ("authorization", b"bearer "),
        ("cookie", b"tidegate_token=caf\xe9"),
        ("sec-websocket-protocol", b"tidegate.v1, tidegate.token.caf\xe9"),
    ] {
        assert_refused(&with_bytes(name, value), ErrorCode::Unauthenticated, Close::Unauthenticated);
    }
    assert!(matches!(with_bytes("authorization", b"Bearers abc"), Opening::AwaitHello), "another scheme");
}

#[test]
fn different_tokens_are_refused_even_if_both_are_valid() {
    let (alice, bob) = (hs256(&claims("alice")), hs256(&claims("bob")));
    let bearer = format!("Bearer {alice}");
    let offers = format!("tidegate.v1, tidegate.token.{bob}");
    let cookie = format!("tidegate_token={bob}");
    let two_cookies = format!("tidegate_token={bob}; tidegate_token={alice}");
    for headers in [
        &[("authorization", bearer.as_str()), ("sec-websocket-protocol", &offers)][..],
        &[("authorization", &bearer), ("cookie", &cookie), ("origin", PAGE)],
        &[("cookie", &two_cookies), ("origin", PAGE)],
    ] {
        assert_refused(&open("/ws", headers), ErrorCode::Unauthenticated, Close::Unauthenticated);
    }
}

#[test]
fn a_cookie_counts_only_from_a_page_listed_by_name() {
    let cookie = format!("tidegate_token={}", hs256(&claims("alice")));
    // A program with a cookie jar.
    assert_refused(&open("/ws", &[("cookie", &cookie)]), ErrorCode::Unauthenticated, Close::Unauthenticated);
    // A page elsewhere, where every page may connect: its visitor's cookie must not.
    let elsewhere = request("/ws", &[("cookie", &cookie), ("origin", "https://evil.example")]);
    let opening = handshake(true).decide(&elsewhere, None, NOW, SessionId::from_random(7)).unwrap().opening;
    assert_refused(&opening, ErrorCode::Unauthenticated, Close::Unauthenticated);
    // A token that the page itself hands over counts all the same, and the cookie is left aside.
    let offers = format!("tidegate.v1, tidegate.token.{}", hs256(&claims("bob")));
    let headers =
        [("cookie", cookie.as_str()), ("origin", "https://evil.example"), ("sec-websocket-protocol", &offers)];
    let opening =
        handshake(true).decide(&request("/ws", &headers), None, NOW, SessionId::from_random(7)).unwrap().opening;
    assert_user(&opening, "bob");
}

#[test]
fn origins_are_compared_whole() {
    for origin in [PAGE, "https://app.example.com:443", "HTTPS://APP.EXAMPLE.COM"] {
        assert!(matches!(open("/ws", &[("origin", origin)]), Opening::AwaitHello), "{origin}");
    }
    for origin in [
        "https://evil-app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://app.example.com/evil",
        "null",
        "",
    ] {
        assert_refused(&open("/ws", &[("origin", origin)]), ErrorCode::WrongOrigin, Close::WrongOrigin);
    }
}

/// Programs send the origin of the address that they connect to.
#[test]
fn the_own_host_may_connect_and_its_cookie_is_not_trusted() {
    let own = ["https://gw.example.com", "https://gw.example.com:443", "wss://gw.example.com", "http://gw.example.com"];
    for origin in own {
        assert!(matches!(open("/ws", &[("origin", origin)]), Opening::AwaitHello), "{origin}");
        let cookie = format!("tidegate_token={}", hs256(&claims("alice")));
        let opening = open("/ws", &[("origin", origin), ("cookie", &cookie)]);
        assert_refused(&opening, ErrorCode::Unauthenticated, Close::Unauthenticated);
    }
}

/// A cookie is sent for every page, so it counts only if the page is listed by its whole name.
#[test]
fn patterns_let_pages_connect_and_trust_no_cookie() {
    let rules = ["https://*.example.org", "null", "capacitor://localhost", "https://B\u{fc}cher.example/"];
    let handshake = allowing(Origins::parse(&rules.map(str::to_owned)).unwrap());
    let cookie = format!("tidegate_token={}", hs256(&claims("alice")));
    for (origin, is_trusted) in [
        ("https://app.example.org", false),
        ("null", false),
        ("capacitor://localhost", true),
        ("https://xn--bcher-kva.example", true),
    ] {
        let open = |headers: &[(&str, &str)]| {
            handshake.decide(&request("/ws", headers), None, NOW, SessionId::from_random(7)).unwrap().opening
        };
        assert!(matches!(open(&[("origin", origin)]), Opening::AwaitHello), "{origin}");
        let opening = open(&[("origin", origin), ("cookie", &cookie)]);
        assert_eq!(matches!(opening, Opening::Authenticated(_)), is_trusted, "{origin}: {opening:?}");
    }
}

#[test]
fn a_token_in_the_address_is_refused() {
    for query in ["token=x", "a=b&access_token=x", "Token", "JWT=x"] {
        let opening = open(&format!("/ws?{query}"), &[]);
        assert_refused(&opening, ErrorCode::Unauthenticated, Close::Unauthenticated);
    }
    assert!(matches!(open("/ws?v=3&tokens=none", &[]), Opening::AwaitHello));
}

#[test]
fn offered_subprotocols_must_include_ours() {
    let upgrade = decide(&request("/ws", &[("sec-websocket-protocol", "graphql-ws, tidegate.v1")])).unwrap();
    assert!(upgrade.subprotocol);
    let token_alone = format!("tidegate.token.{}", hs256(&claims("alice")));
    for offer in ["graphql-ws", "tidegate.v2", "tidegate.v1x", &token_alone] {
        let upgrade = decide(&request("/ws", &[("sec-websocket-protocol", offer)])).unwrap();
        assert!(!upgrade.subprotocol, "{offer}");
        assert_refused(&upgrade.opening, ErrorCode::InvalidField, Close::WrongSubprotocol);
    }
}

#[test]
fn an_empty_list_of_subprotocols_is_no_offer() {
    for empty in ["", " ", ",", " , ,"] {
        let upgrade = decide(&request("/ws", &[("sec-websocket-protocol", empty)])).unwrap();
        assert!(!upgrade.subprotocol, "{empty:?}");
        assert!(matches!(upgrade.opening, Opening::AwaitHello), "{empty:?}: {:?}", upgrade.opening);
    }
}

#[test]
fn the_path_names_the_tokens_tenant() {
    let bearer = format!("Bearer {}", hs256(&with(claims("alice"), json!({"tenant": "acme"}))));
    let open_at = |tenant: Option<&str>| {
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).unwrap());
        let request = request("/ws", &[("authorization", &bearer)]);
        handshake(false).decide(&request, tenant.as_ref(), NOW, SessionId::from_random(7)).unwrap().opening
    };
    assert_user(&open_at(None), "alice");
    assert_user(&open_at(Some("acme")), "alice");
    assert_refused(&open_at(Some("other")), ErrorCode::WrongIdentity, Close::WrongTenant);
}

#[test]
fn bad_tokens_are_told_by_frame_and_never_repeated() {
    let expired = hs256(&with(claims("alice"), json!({"exp": NOW - 1})));
    let opening = open("/ws", &[("authorization", &format!("Bearer {expired}"))]);
    assert_refused(&opening, ErrorCode::TokenExpired, Close::TokenExpired);
    let opening = open("/ws", &[("authorization", "Bearer canary.canary.canary")]);
    assert_refused(&opening, ErrorCode::Unauthenticated, Close::Unauthenticated);
    assert!(!format!("{opening:?}").contains("canary"), "{opening:?}");
}

#[test]
fn a_cookie_of_the_application_is_left_alone() {
    let fresh = RoutingCookie::Set(SessionId::from_random(7));
    for (cookie, expected) in [
        ("session_id=0123456789abcdef0123456789abcdef01234567", fresh),
        ("tidegate_session=guess", RoutingCookie::Untouched),
        ("tidegate_session=0123456789abcdef0123456789abcdef", {
            RoutingCookie::Brought(SessionId::parse("0123456789abcdef0123456789abcdef").unwrap())
        }),
    ] {
        assert_eq!(decide(&request("/ws", &[("cookie", cookie)])).unwrap().cookie, expected, "{cookie}");
    }
}

/// A gateway that trusts a key set which has not been fetched, and an upgrade with a token of one of its keys.
fn with_unfetched_keys() -> (Handshake, Request<()>) {
    let handshake = handshake(false);
    handshake.verifier.replace(verifier().with_key_sets([key_set()], KEY_SET_TIMES));
    let token = curve(Algorithm::EdDSA, Some("k"), &claims("alice"), ED25519_PRIVATE);
    (handshake, request("/ws", &[("+authorization", &format!("Bearer {token}"))]))
}

fn is_ready(wait: Pin<&mut impl Future>) -> bool {
    // Hundreds are polled in one turn.
    std::pin::pin!(tokio::task::unconstrained(wait)).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// The others find places among the requests in progress, also if the issuer cannot be reached.
#[tokio::test]
async fn a_bounded_number_waits_for_keys() {
    let (handshake, request) = with_unfetched_keys();
    let decide = || handshake.decide(&request, None, NOW, SessionId::from_random(7)).unwrap().opening;
    let mut waits: Vec<_> = (0..KEY_WAITS_MAX).map(|_| Box::pin(handshake.await_key(&request, NOW * 1_000))).collect();
    assert!(waits.iter_mut().all(|wait| !is_ready(wait.as_mut())));
    let goes_on = || is_ready(std::pin::pin!(handshake.await_key(&request, NOW * 1_000)));
    assert!(goes_on(), "one more does not wait");
    assert_refused(&decide(), ErrorCode::Unavailable, Close::TryAgainLater);
    waits.pop();
    assert!(!goes_on(), "a client has gone, so the next one waits");
    let verifier = handshake.verifier.get();
    let keys = parse(json!({ "keys": [jwk_of("EdDSA", "k")] }).to_string().as_bytes()).unwrap().keys;
    verifier.key_sets().for_each(|set| set.succeeded(keys.clone(), None, NOW * 1_000));
    assert!(waits.iter_mut().all(|wait| is_ready(wait.as_mut())), "the keys are there");
    assert_user(&decide(), "alice");
}
