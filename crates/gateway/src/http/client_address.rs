//! PURE. Whose connection it is: the address of a client, also behind proxies that the operator trusts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::{ForwardedHeader, TrustedProxies};
use crate::http::fields::unquoted;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that count as one client: an IPv4 address, or the /64 of an IPv6 address, which one host may use whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressKey {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl AddressKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// The address of the other end, or the one that a trusted proxy gave at the beginning of the connection.
    pub(crate) address: SocketAddr,
    /// Whether a trusted proxy began the connection without an address: its client is not known, whatever a header
    /// says, because a proxy that forwards bytes does not check headers.
    pub(crate) is_unknown: bool,
}

/// The client of a request that came from `peer`. `None` if it came from a trusted proxy that does not say for whom: no
/// limit for one client may apply to it.
///
/// Each proxy appends the address that it got the request from. So the list is read from its end, and the first address
/// that is no trusted proxy is the client. Everything before it is what the client claims.
pub(crate) fn client_address(proxies: &TrustedProxies, peer: Peer, headers: &HeaderMap) -> Option<AddressKey> {
    if peer.is_unknown {
        return None;
    }
    if !proxies.trust(peer.address.ip()) {
        return Some(AddressKey::of(peer.address.ip()));
    }
    let name = match proxies.header {
        ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
        ForwardedHeader::Forwarded => FORWARDED,
    };
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    for line in lines.into_iter().rev() {
        // A line that is not text hides nothing: its addresses are.
        for element in rsplit_unquoted(line, b',') {
            let element = element.trim_ascii();
            if element.is_empty() {
                continue;
            }
            let text = match proxies.header {
                ForwardedHeader::XForwardedFor => Some(element),
                ForwardedHeader::Forwarded => forwarded_for(element),
            };
            match text.and_then(read_address) {
                Some(address) if proxies.trust(address) => {}
                Some(address) => return Some(AddressKey::of(address)),
                // A name, or "unknown": the proxy behind it keeps its clients to itself.
                None => return None,
            }
        }
    }
    None
}

/// The value of `for` in one element of `Forwarded` (RFC 7239 §4), without quotes.
fn forwarded_for(element: &[u8]) -> Option<&[u8]> {
    rsplit_unquoted(element, b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then(|| unquoted(value))
    })
}

/// The parts of a header between separators that are not in quoted strings (RFC 9110 §5.6.4), from the last to the first.
/// It is read from its end, so that a quote in what a client claims does not hide what a proxy has appended. Of a stray
/// quote and everything before it, one part remains.
fn rsplit_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = last_unquoted(text, separator);
        rest = at.map(|at| &text[..at]);
        Some(at.map_or(text, |at| &text[at + 1..]))
    })
}

fn last_unquoted(text: &[u8], separator: u8) -> Option<usize> {
    let mut end = text.len();
    loop {
        let at = text[..end].iter().rposition(|byte| *byte == separator || *byte == b'"')?;
        if text[at] == separator {
            return Some(at);
        }
        end = opening_quote(&text[..at])?;
    }
}

/// The quote that begins a quoted string whose content ends with `text`.
fn opening_quote(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    loop {
        let at = text[..end].iter().rposition(|byte| *byte == b'"')?;
        let is_escaped = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        if !is_escaped {
            return Some(at);
        }
        end = at;
    }
}

/// An address, with or without a port and brackets.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&[u8]]) -> Option<String> {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8".into(), "fd00::/8".into(), "192.0.2.1".into()], header);
        let name = if header == ForwardedHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), hyper::header::HeaderValue::from_bytes(line).unwrap());
        }
        // The header that is not configured says nothing.
        let other = if header == ForwardedHeader::Forwarded { X_FORWARDED_FOR } else { FORWARDED };
        headers.append(other, "6.6.6.6".parse().unwrap());
        let address = SocketAddr::new(peer.parse().unwrap(), 1);
        let unknown = client_address(&proxies, Peer { address, is_unknown: true }, &headers);
        assert_eq!(unknown, None, "a proxy that did not say for whom it connects");
        client_address(&proxies, Peer { address, is_unknown: false }, &headers).map(|key| match key {
            AddressKey::V4(address) => address.to_string(),
            AddressKey::V6([a, b, c, d]) => format!("{a:x}:{b:x}:{c:x}:{d:x}"),
        })
    }

    #[test]
    fn only_a_trusted_proxy_may_speak_for_others() {
        let says = |peer, lines: &[&[u8]]| client(ForwardedHeader::XForwardedFor, peer, lines);
        for (peer, lines, expected) in [
            ("203.0.113.9", &[&b"1.1.1.1"[..]][..], Some("203.0.113.9")),
            ("10.1.2.3", &[b"1.1.1.1"], Some("1.1.1.1")),
            ("::ffff:10.1.2.3", &[b"1.1.1.1"], Some("1.1.1.1")),
            ("192.0.2.1", &[b"::ffff:1.1.1.1"], Some("1.1.1.1")),
            // What the client wrote itself is before the address that the proxy saw.
            ("10.1.2.3", &[b"9.9.9.9, 1.1.1.1"], Some("1.1.1.1")),
            ("10.1.2.3", &[b"9.9.9.9", b"1.1.1.1, 10.9.9.9 , fd00::1"], Some("1.1.1.1")),
            ("10.1.2.3", &[b"\xff\xfe, 1.1.1.1"], Some("1.1.1.1")),
            ("10.1.2.3", &[b"1.1.1.1:4711"], Some("1.1.1.1")),
            ("fd00::7", &[b"[2001:db8:1:2:3:4:5:6]:443,"], Some("2001:db8:1:2")),
            ("fd00::7", &[b"2001:db8:1:2:ffff::1"], Some("2001:db8:1:2")),
            ("10.1.2.3", &[], None),
            ("10.1.2.3", &[b"10.4.4.4"], None),
            ("10.1.2.3", &[b"1.1.1.1, unknown"], None),
        ] {
            assert_eq!(says(peer, lines).as_deref(), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_read_as_the_standard_says() {
        let says = |lines: &[&[u8]]| client(ForwardedHeader::Forwarded, "10.1.2.3", lines);
        for (line, expected) in [
            (&b"for=1.1.1.1"[..], Some("1.1.1.1")),
            (b"by=10.0.0.1; FOR=1.1.1.1 ;proto=https", Some("1.1.1.1")),
            (b"for=9.9.9.9, for=\"1.1.1.1:80\", for=10.2.2.2", Some("1.1.1.1")),
            (b"for=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe:0")),
            (b"for=_hidden", None),
            // A proxy quotes what comes from the client, and escapes its quotes.
            (b"for=1.1.1.1;host=\"a, for=6.6.6.6\"", Some("1.1.1.1")),
            (b"for=1.1.1.1;host=\"a;for=6.6.6.6\"", Some("1.1.1.1")),
            (b"host=\"a;for=6.6.6.6\";for=1.1.1.1", Some("1.1.1.1")),
            (b"for=1.1.1.1;host=\"a\\\", for=6.6.6.6\"", Some("1.1.1.1")),
            (b"for=1.1.1.1;host=\"a\\\\\", for=10.2.2.2;host=\";, \"", Some("1.1.1.1")),
            (b"for=1.1.1.1;host=\"a, for=6.6.6.6\", for=10.2.2.2", Some("1.1.1.1")),
            // A quote of the client hides nothing that a proxy has appended.
            (b"for=\"6.6.6.6, for=1.1.1.1", Some("1.1.1.1")),
            (b"for=\"6.6.6.6, for=\"1.1.1.1:80\";host=\"x\"", Some("1.1.1.1")),
            (b"for=6.6.6.6, for=\"9.9.9.9, for=10.2.2.2", None),
            (b"for=6.6.6.6;host=\"a", None),
            (b"for=6.6.6.6, for=1.1.1.1;host=\"a", None),
            (b"\"", None),
            (b"proto=https", None),
        ] {
            assert_eq!(says(&[line]).as_deref(), expected, "{}", line.escape_ascii());
        }
    }
}
