//! Tests of the page's files and tokens, without a socket.

use http_body_util::BodyExt;
use wire::Families;

use super::*;
use crate::auth::signed::{NOW, issuer, verifier};

/// Asks for a file, or for a token in the way in which tokens are asked for.
fn ask(host: &str, path: &str) -> Result<Response<Full<Bytes>>, Refusal> {
    let method = if path.starts_with("/dev/token") { Method::POST } else { Method::GET };
    ask_with(method, path, &[("host", host)])
}

fn ask_with(method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Response<Full<Bytes>>, Refusal> {
    let page = Page::new(DevTokens::new(issuer(), &Families::default()));
    let request = headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
    page.answer(&request.method(method).uri(path).body(()).unwrap(), NOW)
}

/// A script or an image of a page is a `GET`; a form and a script of a page elsewhere say where they come from.
#[test]
fn a_page_elsewhere_gets_no_token() {
    const TOKEN: &str = "/dev/token?user=alice";
    for method in [Method::GET, Method::HEAD, Method::PUT] {
        let refusal = ask_with(method, TOKEN, &[("host", "localhost:8080")]).unwrap_err();
        assert_eq!(refusal, Refusal::method_not_allowed("POST"));
    }
    for elsewhere in [
        ("origin", "https://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let refusal = ask_with(Method::POST, TOKEN, &[("host", "localhost:8080"), elsewhere]).unwrap_err();
        assert_eq!(refusal, Refusal::cross_site(), "{elsewhere:?}");
    }
    let own = [("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
    for headers in [&own[..1], &own[..2], &own] {
        let answer = ask_with(Method::POST, TOKEN, headers).unwrap();
        for (name, value) in [("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "same-origin")] {
            assert_eq!(answer.headers().get(name).map(hyper::header::HeaderValue::as_bytes), Some(value.as_bytes()));
        }
    }
    assert_eq!(ask_with(Method::POST, "/", &own).unwrap_err(), Refusal::method_not_allowed("GET, HEAD"));
}

async fn token(query: &str) -> String {
    let body = ask("localhost:8080", &format!("/dev/token?{query}")).unwrap().into_body();
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned()
}

#[test]
fn every_file_the_page_names_is_served() {
    let html = FILES.iter().find(|file| file.path == "/").unwrap().text;
    let named = html.split('"').filter(|text| text.starts_with("/dev/"));
    assert!(named.clone().count() > 0, "the page names its script");
    for path in named {
        assert!(ask("localhost", path).is_ok(), "{path}");
    }
    assert_eq!(ask("localhost", "/dev/none").unwrap_err(), Refusal::not_found());
}

#[test]
fn a_name_rebound_to_loopback_is_not_served() {
    for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080"] {
        assert!(ask(host, "/").is_ok(), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "10.0.0.1"] {
        assert_eq!(ask(host, "/dev/token?user=a").unwrap_err().code, "bad_request", "{host}");
    }
}

#[tokio::test]
async fn tokens_are_good_here_and_say_what_was_asked() {
    let families = Families::default();
    let identity = verifier().verify(&token("user=al%40x&tenant=acme").await, NOW).unwrap();
    assert_eq!((identity.tenant.as_str(), identity.user.as_str()), ("acme", "al@x"));
    for channel in ["collection:1", "collection:1:*", "system", "system:*", "user:al@x:*"] {
        assert!(identity.may_subscribe(&families.parse(&identity.tenant, channel).unwrap()), "{channel}");
    }
    assert!(!identity.may_subscribe(&families.parse(&identity.tenant, "user:bob").unwrap()));
    let identity = verifier().verify(&token("user=al&subscribe=system:*,user:bob&publish=").await, NOW).unwrap();
    assert!(identity.may_subscribe(&families.parse(&identity.tenant, "user:bob").unwrap()));
    assert!(!identity.may_subscribe(&families.parse(&identity.tenant, "collection:1").unwrap()));
    assert!(!identity.may_publish(&families.parse_channel(&identity.tenant, "collection:1").unwrap()));
}

#[test]
fn what_cannot_be_signed_is_refused() {
    for query in ["", "user=", "user=a:b", "user=a&tenant=/", "user=%zz", "user=a&admin=1"] {
        let refusal = ask("localhost", &format!("/dev/token?{query}")).unwrap_err();
        assert_eq!(refusal.code, "bad_request", "{query}");
    }
}
