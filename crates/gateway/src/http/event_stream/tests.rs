//! Which requests open an event stream, and what the others are told.

use serde_json::json;
use wire::{Position, UserId};

use super::*;
use crate::auth::signed::{NOW, claims, hs256, verifier, with};
use crate::config::{HttpConfig, Origins, Paths, Secure, SessionCookie};
use crate::host::reloadable::Reloadable;
use crate::http::cors::Cors;
use crate::session;

const PAGE: &str = "https://app.example.com";

fn handshake() -> Handshake {
    let http = HttpConfig {
        allowed_origins: Origins { any: true, exact: vec![PAGE.into()], ..Origins::default() },
        session_cookie: SessionCookie { name: None, secure: Secure::Auto },
        paths: Paths::default(),
    };
    Handshake::new(
        Reloadable::new(verifier()),
        Reloadable::new(http.allowed_origins.clone().into()),
        &http,
        "tidegate_token".into(),
    )
}

fn alice() -> String {
    hs256(&with(claims("alice"), json!({"subscribe": ["collection:*", "user:alice"]})))
}

fn decide(uri: &str, headers: &[(&str, &str)]) -> Result<EventStreamRequest, (u16, &'static str)> {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    let decided = handshake().decide_event_stream(&request, None, NOW, SessionId::from_random(1));
    decided.map_err(|refusal| {
        assert!(refusal.message.len() > 10, "a sentence: {}", refusal.message);
        (refusal.status.as_u16(), refusal.code)
    })
}

fn with_token(uri: &str, headers: &[(&str, &str)]) -> Result<EventStreamRequest, (u16, &'static str)> {
    let bearer = format!("Bearer {}", alice());
    decide(uri, &[&[("authorization", bearer.as_str())], headers].concat())
}

fn own_session() -> SessionId {
    session::bind(SessionId::from_random(9), &TenantId::default(), &UserId::parse("alice").unwrap())
}

fn channels(request: EventStreamRequest) -> Vec<(String, Option<Position>)> {
    request.channels.into_iter().map(|resume| (resume.channel.into_owned(), resume.position)).collect()
}

#[test]
fn channels_come_from_the_address_or_from_the_cursor() {
    let fresh =
        with_token("/sse?channels=collection:1:*,user:alice&channels=collection%3A2&_=17&presence=collection:1", &[]);
    let fresh = fresh.unwrap();
    assert_eq!((fresh.session, &*fresh.presence), (None, &["collection:1".to_owned()][..]));
    assert_eq!(channels(fresh), ["collection:1:*", "user:alice", "collection:2"].map(|name| (name.to_owned(), None)));
    let cursor = format!("{};user:alice;collection:7:*/7-9", own_session());
    let expected = [("user:alice".to_owned(), None), ("collection:7:*".to_owned(), Some(Position::new(7, 9)))];
    let in_header = with_token("/sse?channels=collection:1:*", &[("last-event-id", &cursor)]).unwrap();
    assert_eq!((in_header.session, channels(in_header)), (Some(own_session()), expected.to_vec()));
    let in_query = with_token(&format!("/sse?cursor={}", cursor.replace(';', "%3B")), &[]).unwrap();
    assert_eq!((in_query.session, channels(in_query)), (Some(own_session()), expected.to_vec()));
    let empty = with_token("/sse?channels=collection:1", &[("last-event-id", "")]).unwrap();
    assert_eq!(channels(empty), [("collection:1".to_owned(), None)], "no event has been received");
}

#[test]
fn what_a_retry_cannot_help_is_a_status_of_its_own() {
    let others = session::bind(SessionId::from_random(9), &TenantId::default(), &UserId::parse("bob").unwrap());
    let long: Vec<String> = (0..80).map(|n| format!("collection:{n}")).collect();
    let many = format!("/sse?channels={}", long.join(","));
    for (uri, id, expected) in [
        ("/sse", None, (400, "invalid_channel")),
        ("/sse?channels=", None, (400, "invalid_channel")),
        ("/sse?channels=nothing:1", None, (400, "invalid_channel")),
        ("/sse?channels=collection:1:a:*:b", None, (400, "invalid_channel")),
        ("/sse?channels=%zz", None, (400, "bad_request")),
        ("/sse?channels=collection:1,collection:1", None, (400, "already_subscribed")),
        (&many, None, (400, "too_many_channels")),
        ("/sse?channels=user:bob", None, (403, "forbidden")),
        ("/sse?channels=collection:1", Some("17".to_owned()), (400, "invalid_position")),
        ("/sse?channels=collection:1", Some(format!("{};collection:1/x", own_session())), (400, "invalid_position")),
        ("/sse", Some(format!("{};user:bob/7-9", own_session())), (403, "forbidden")),
        ("/sse", Some(format!("{others};collection:1/7-9")), (403, "wrong_identity")),
        ("/sse?channels=collection:1&token=x", None, (401, "unauthenticated")),
    ] {
        let headers: Vec<(&str, &str)> = id.iter().map(|id| ("last-event-id", id.as_str())).collect();
        assert_eq!(with_token(uri, &headers).unwrap_err(), expected, "{uri} {id:?}");
    }
    let bearer = format!("Bearer {}", alice());
    let twice = [("authorization", bearer.as_str()), ("last-event-id", "a"), ("last-event-id", "b")];
    assert_eq!(decide("/sse?channels=collection:1", &twice).unwrap_err(), (400, "bad_request"));
}

#[test]
fn a_token_stands_in_a_header_or_in_a_cookie_of_a_trusted_page() {
    let uri = "/sse?channels=collection:1";
    let cookie = format!("a=b; tidegate_token={}", alice());
    let cookie = ("cookie", cookie.as_str());
    for (headers, is_taken) in [
        (vec![cookie, ("origin", PAGE)], true),
        (vec![cookie, ("sec-fetch-site", "same-origin")], true),
        (vec![cookie, ("sec-fetch-site", "same-site")], false),
        (vec![cookie, ("sec-fetch-site", "cross-site")], false),
        (vec![cookie, ("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false),
        (vec![cookie], false),
        (vec![], false),
        (vec![("authorization", "Bearer forged")], false),
    ] {
        let decided = decide(uri, &headers).map(|_| ()).map_err(|(status, _)| status);
        assert_eq!(decided, if is_taken { Ok(()) } else { Err(401) }, "{headers:?}");
    }
}

#[test]
fn pages_of_listed_origins_alone_may_use_cookies_and_others_may_read_where_any_is_allowed() {
    let cors = |origin: &str| {
        let request = Request::get("/sse").header("origin", origin).body(()).unwrap();
        handshake().cors(request.headers()).map(|Cors { credentials, .. }| credentials)
    };
    assert_eq!([PAGE, "https://other.example"].map(cors), [Some(true), Some(false)]);
}
