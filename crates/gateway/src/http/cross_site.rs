//! PURE. Whether a page of another site has made a browser send a request. Such a page can send requests to every
//! address that its visitor reaches, such as the admin port on an operator's machine. It cannot hide where they come
//! from.

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};

use crate::config::origins::is_of_host;
use crate::http::fields::only;

/// Where the page is that made the browser send the request (Fetch Metadata). Programs do not send it.
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request comes from a page of another site, or of none. A browser says so by `Sec-Fetch-Site`, and an
/// older one by `Origin` at least.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name| only(headers, name).and_then(|value| str::from_utf8(value).ok()).unwrap_or_default();
    let is_foreign_origin = headers.contains_key(ORIGIN) && !is_of_host(text(&ORIGIN), text(&HOST));
    let is_foreign_fetch =
        headers.contains_key(SEC_FETCH_SITE) && !matches!(text(&SEC_FETCH_SITE), "same-origin" | "none");
    is_foreign_origin || is_foreign_fetch
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn programs_and_own_pages_are_not_and_all_others_are() {
        for (lines, expected) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")][..], false),
            (&[("sec-fetch-site", "none")], false), // A person has entered the address.
            (&[("origin", "http://127.0.0.1:9090")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9090")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "")], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], true),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "http://127.0.0.1:3000")], true),
            (&[("origin", "null")], true),
            (&[("origin", "")], true),
            (&[("origin", "\u{e9}")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], true),
        ] {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("127.0.0.1:9090"))]);
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(is_cross_site(&headers), expected, "{lines:?}");
        }
    }
}
