//! PURE. The routing cookie: a load balancer's stick-table uses it to keep a client at its instance.
//!
//! A host name belongs to the application, and so do its cookies. The gateway sets a cookie only under its own name, and
//! only if there is none of that name, or one that a gateway has set.

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use wire::SessionId;

use crate::config::{Secure, SessionCookie};
use crate::http::fields::{cookies, elements, pair};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The routing cookie of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoutingCookie {
    /// The client sent it: it has been connected to this instance or another one. It keeps its row in the stick-table.
    Brought(SessionId),
    /// The client gets this one.
    Set(SessionId),
    /// The client gets none: there is no cookie, or another program uses its name.
    Untouched,
}

impl RoutingCookie {
    /// What the client of `headers` gets. `fresh` is a new value.
    pub(crate) fn choose(config: &SessionCookie, headers: &HeaderMap, fresh: SessionId) -> Self {
        let Some(name) = &config.name else { return Self::Untouched };
        let mut values = cookies(headers, name).peekable();
        if values.peek().is_none() {
            return Self::Set(fresh);
        }
        let own = values.find_map(|value| SessionId::parse(str::from_utf8(value).ok()?));
        own.map_or(Self::Untouched, Self::Brought)
    }

    /// Another value in its place, so that the balancer chooses an instance anew.
    pub(crate) fn renewed(self, fresh: SessionId) -> Self {
        if self == Self::Untouched { self } else { Self::Set(fresh) }
    }

    /// The value of `Set-Cookie`, if the client gets a cookie.
    pub(crate) fn header(self, config: &SessionCookie, headers: &HeaderMap) -> Option<HeaderValue> {
        let (Self::Set(id), Some(name)) = (self, &config.name) else { return None };
        let is_secure = match config.secure {
            Secure::Auto => came_through_tls(headers),
            Secure::Always => true,
            Secure::Never => false,
        };
        let secure = if is_secure { "; Secure" } else { "" };
        let value = format!("{name}={id}; HttpOnly; SameSite=Lax; Path=/{secure}");
        Some(HeaderValue::from_str(&value).expect("a checked name and hexadecimal digits are a header value"))
    }
}

/// Whether a proxy says that the client spoke TLS to it. The first of several proxies is the client's. A client that
/// lies changes only its own cookie, so it does not matter who has set the header.
fn came_through_tls(headers: &HeaderMap) -> bool {
    let is_tls = |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss");
    let forwarded = elements(headers, &FORWARDED).next().into_iter().flat_map(|hop| hop.split(|byte| *byte == b';'));
    let mut schemes = forwarded.filter_map(pair).filter(|(name, _)| name.eq_ignore_ascii_case(b"proto"));
    schemes.any(|(_, scheme)| is_tls(scheme)) || elements(headers, &X_FORWARDED_PROTO).next().is_some_and(is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::headers;

    const OWN: &str = "0123456789abcdef0123456789abcdef";

    fn config(name: Option<&str>, secure: Secure) -> SessionCookie {
        SessionCookie { name: name.map(str::to_owned), secure }
    }

    #[test]
    fn only_an_absent_cookie_or_one_of_a_gateway_is_replaced() {
        let (fresh, own) = (SessionId::from_random(7), SessionId::parse(OWN).unwrap());
        let config = config(Some("tidegate_session"), Secure::Auto);
        let jwt = "tidegate_session=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
        for (cookie, expected) in [
            (&b"session_id=0123456789abcdef0123456789abcdef"[..], RoutingCookie::Set(fresh)),
            (b"tidegate_session=", RoutingCookie::Set(fresh)),
            (b"theme=\xff; x", RoutingCookie::Set(fresh)),
            (format!("a=\u{e9}; tidegate_session={OWN}").as_bytes(), RoutingCookie::Brought(own)),
            (format!("tidegate_session=\"{OWN}\"").as_bytes(), RoutingCookie::Brought(own)),
            (format!("tidegate_session=other; tidegate_session={OWN}").as_bytes(), RoutingCookie::Brought(own)),
            (b"tidegate_session=0123456789abcdef0123456789abcdef01234567", RoutingCookie::Untouched),
            (b"tidegate_session=guess", RoutingCookie::Untouched),
            (b"tidegate_session=\xff", RoutingCookie::Untouched),
            (jwt.as_bytes(), RoutingCookie::Untouched),
        ] {
            let cookie_said = String::from_utf8_lossy(cookie);
            let chosen = RoutingCookie::choose(&config, &headers(&[("cookie", cookie)]), fresh);
            assert_eq!(chosen, expected, "{cookie_said}");
            let renewed = chosen.renewed(SessionId::from_random(8)).header(&config, &headers(&[]));
            assert_eq!(renewed.is_some(), chosen != RoutingCookie::Untouched, "{cookie_said}");
        }
    }

    #[test]
    fn without_a_name_nobody_gets_a_cookie() {
        let config = config(None, Secure::Always);
        for cookie in [b"x=y".as_slice(), b"tidegate_session=0123456789abcdef0123456789abcdef", b"none=x"] {
            let chosen = RoutingCookie::choose(&config, &headers(&[("cookie", cookie)]), SessionId::from_random(7));
            assert_eq!((chosen, chosen.renewed(SessionId::from_random(8))), (RoutingCookie::Untouched, chosen));
            assert_eq!(chosen.header(&config, &headers(&[])), None);
        }
    }

    #[test]
    fn a_cookie_is_secure_behind_tls() {
        let is_secure = |secure, lines: &[(&'static str, &[u8])]| {
            let config = config(Some("c"), secure);
            let value = RoutingCookie::Set(SessionId::from_random(7)).header(&config, &headers(lines)).unwrap();
            value.to_str().unwrap().contains("; Secure")
        };
        for lines in [
            &[("x-forwarded-proto", &b"https"[..])][..],
            &[("x-forwarded-proto", b"HTTPS, http")],
            &[("x-forwarded-proto", b"wss")],
            &[("forwarded", b"for=192.0.2.60;proto=https;by=203.0.113.43")],
            &[("forwarded", b"for=\"_\xe9\"; Proto=\"https\", for=10.0.0.1;proto=http")],
        ] {
            assert!(is_secure(Secure::Auto, lines), "{lines:?}");
            assert!(!is_secure(Secure::Never, lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[("x-forwarded-proto", &b"http"[..])],
            &[("x-forwarded-proto", b"http, https")],
            &[("x-forwarded-proto", b"\xff")],
            &[("forwarded", b"for=192.0.2.60;proto=http, for=10.0.0.1;proto=https")],
            &[("forwarded", b"for=https;by=x")],
        ] {
            assert!(!is_secure(Secure::Auto, lines), "{lines:?}");
            assert!(is_secure(Secure::Always, lines), "{lines:?}");
        }
    }
}
