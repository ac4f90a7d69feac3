//! PURE. Reads request headers as bytes. A list has elements of other programs too, and some of them are not ASCII. An
//! element that cannot be read must not hide the others, so only the element itself is skipped.

use hyper::header::{CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, TRANSFER_ENCODING};

/// The elements of a list header (RFC 9110 §5.6.1), over all its lines. Empty elements count for nothing.
pub(crate) fn elements<'r>(headers: &'r HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'r [u8]> {
    let lines = headers.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether a list header has this element, in any case.
pub(crate) fn has_element(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The values of all cookies named `name`, without the quotation marks that surround some (RFC 6265 §4.1.1). A cookie
/// without a value counts for nothing: applications clear cookies this way.
pub(crate) fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let named = pairs.filter_map(pair).filter(|(key, value)| *key == name.as_bytes() && !value.is_empty());
    named.map(|(_, value)| value)
}

/// The name and the value of `name=value`, the value without the quotation marks around it.
pub(crate) fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    Some((text[..at].trim_ascii(), unquoted(text[at + 1..].trim_ascii())))
}

/// A value without the quotation marks around it.
pub(crate) fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// Whether a request announces a body. `Content-Length: 0` announces none (RFC 9110 §8.6): proxies add it.
pub(crate) fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| {
            let digits = length.as_bytes();
            digits.is_empty() || digits.iter().any(|digit| *digit != b'0')
        })
}

/// The only value of a header, or nothing if the header is absent or repeated.
pub(crate) fn only<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Option<&'r [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// Headers of these lines, for tests.
#[cfg(test)]
pub(crate) fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, hyper::header::HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

#[cfg(test)]
mod tests {
    use hyper::header::CONNECTION;

    use super::*;

    #[test]
    fn an_element_that_is_not_ascii_hides_no_other() {
        let headers =
            headers(&[("connection", b"keep-alive, \xe9, Upgrade"), ("connection", " ,J\u{e9}, b".as_bytes())]);
        let found: Vec<&[u8]> = elements(&headers, &CONNECTION).collect();
        assert_eq!(found, [&b"keep-alive"[..], b"\xe9", b"Upgrade", "J\u{e9}".as_bytes(), b"b"]);
        assert!(has_element(&headers, &CONNECTION, "upgrade") && !has_element(&headers, &CONNECTION, "alive"));
    }

    #[test]
    fn cookies_are_found_among_those_of_others() {
        for (lines, expected) in [
            (&[&b"name=Jos\xe9; t=a.b-c_d"[..]][..], &[&b"a.b-c_d"[..]][..]),
            (&["name=Jos\u{e9};t=a".as_bytes()], &[b"a"]),
            (&[b"t=a; name=\xff\xfe"], &[b"a"]),
            (&[b"\xff\xfe; =; ;; t; t=a"], &[b"a"]),
            (&[b"t=\"a.b\""], &[b"a.b"]),
            (&[b"x=\"; t=a\""], &[b"a\""]), // A semicolon ends a pair, quotation marks or not (RFC 6265 §4.2.1).
            (&[b"t=\"a"], &[b"\"a"]),
            (&[b" t = a== "], &[b"a=="]),
            (&[b"t=a", b"x=y; t=b"], &[b"a", b"b"]),
            (&[b"t=; t=\"\"; T=a; xt=a"], &[]),
        ] {
            let headers = headers(&lines.iter().map(|line| ("cookie", *line)).collect::<Vec<_>>());
            let found: Vec<&[u8]> = cookies(&headers, "t").collect();
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(lines[0]));
        }
    }

    #[test]
    fn a_body_of_no_bytes_is_none() {
        for (lines, expected) in [
            (&[][..], false),
            (&[("content-length", &b"0"[..])], false),
            (&[("content-length", b"00")], false),
            (&[("content-length", b"0"), ("content-length", b"0")], false),
            (&[("content-length", b"1")], true),
            (&[("content-length", b"10")], true),
            (&[("content-length", b"-0")], true),
            (&[("content-length", b"0, 0")], true),
            (&[("content-length", b"")], true),
            (&[("content-length", b"0"), ("content-length", b"5")], true),
            (&[("content-length", b"0"), ("transfer-encoding", b"chunked")], true),
            (&[("transfer-encoding", b"identity")], true),
        ] {
            assert_eq!(announces_body(&headers(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_repeated_header_has_no_value() {
        assert_eq!(only(&headers(&[("connection", b"\xe9")]), &CONNECTION), Some(&b"\xe9"[..]));
        assert_eq!(only(&headers(&[("connection", b"a"), ("connection", b"a")]), &CONNECTION), None);
        assert_eq!(only(&headers(&[]), &CONNECTION), None);
    }
}
