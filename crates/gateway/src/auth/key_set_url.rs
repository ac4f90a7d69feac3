//! The address of a key set: `http://` or `https://`, without user and fragment.

use hyper::Uri;

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySetUrl {
    uri: Uri,
    is_tls: bool,
}

impl KeySetUrl {
    /// Parses an address. The message says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let is_tls = match text.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return Err("it begins with https:// or http://"),
        };
        let uri: Uri = text.parse().map_err(|_| "this is not a URL")?;
        let authority = uri.authority().ok_or("it has a host")?;
        if authority.as_str().contains('@') {
            return Err("it has no user and no password");
        }
        // `hyper` drops a fragment.
        if text.contains('#') {
            return Err("it has no fragment (#)");
        }
        if authority.host().is_empty() || authority.port_u16() == Some(0) {
            return Err("it has a host");
        }
        Ok(Self { uri, is_tls })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether the address is of this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub(crate) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// Host and port, as the header `Host` has them.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_key_sets() {
        let parts = |text| {
            let url = KeySetUrl::parse(text).unwrap();
            let (host, port, target) = (url.host().to_owned(), url.port(), url.target().to_owned());
            (host, port, target, url.is_tls(), url.is_loopback())
        };
        for (text, host, port, target, is_tls, is_loopback) in [
            ("https://login.example.com/keys", "login.example.com", 443, "/keys", true, false),
            ("https://login.example.com", "login.example.com", 443, "/", true, false),
            ("http://127.0.0.1:8080/a/b?c=d", "127.0.0.1", 8080, "/a/b?c=d", false, true),
            ("http://[::1]/keys", "::1", 80, "/keys", false, true),
            ("http://localhost:81/keys", "localhost", 81, "/keys", false, true),
        ] {
            assert_eq!(parts(text), (host.into(), port, target.into(), is_tls, is_loopback), "{text}");
        }
        for wrong in [
            "",
            "login.example.com/keys",
            "ftp://a/b",
            "https:///keys",
            "https://me:pw@a/keys",
            "https://a/keys#x",
            "/keys",
        ] {
            assert!(KeySetUrl::parse(wrong).is_err(), "{wrong}");
        }
    }
}
