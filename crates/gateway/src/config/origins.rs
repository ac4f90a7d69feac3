//! The pages that may open connections: `http.allowed_origins`.

use url::Url;

/// The origins from which a page may connect. A request without `Origin` comes from a program and is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// `*`: every page. This is safe if the page supplies the token, and unsafe if the cookie carries it.
    pub any: bool,
    /// `loopback`: any port of localhost, 127.0.0.1 and [::1], for development.
    pub loopback: bool,
    /// `null`: pages without an origin of their own, such as files and sandboxed frames of any author.
    pub null: bool,
    /// Allowed origins, as browsers write them.
    pub exact: Vec<String>,
    /// Domains whose subdomains are all allowed.
    pub subdomains: Vec<Subdomains>,
}

/// The subdomains of one domain, at any depth, without the domain itself: `https://*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subdomains {
    /// `https://` or `http://`.
    scheme: &'static str,
    /// A dot, the domain, and the port unless it is the scheme's default.
    suffix: String,
}

impl Origins {
    /// Parses the list of `http.allowed_origins`. The error is the rule that is wrong and what it must be.
    pub(crate) fn parse(rules: &[String]) -> Result<Self, String> {
        let mut origins = Self::default();
        for rule in rules {
            let wrong = |expected: String| format!("{expected}, instead of {rule:?}");
            match rule.as_str() {
                "*" => origins.any = true,
                "loopback" => origins.loopback = true,
                "null" => origins.null = true,
                rule if rule.contains('*') => origins.subdomains.push(Subdomains::parse(rule).map_err(wrong)?),
                rule => origins.exact.push(page_origin(rule).map_err(wrong)?),
            }
        }
        Ok(origins)
    }

    /// The origins whose cookie is trusted: those that are listed by their whole name, and `loopback`. Anybody may have
    /// a subdomain, or a page without an origin.
    pub(crate) fn named(&self) -> Self {
        Self { exact: self.exact.clone(), loopback: self.loopback, ..Self::default() }
    }

    /// Whether a page of `origin` may connect. Origins are compared as RFC 6454 §5 says: a default port and the case
    /// of letters make no difference.
    ///
    /// ```
    /// use tidegate_gateway::config::Origins;
    /// let origins = Origins { loopback: true, exact: vec!["https://app.example.com".into()], ..Origins::default() };
    /// assert!(origins.allow("https://app.example.com"));
    /// assert!(origins.allow("http://localhost:5173"));
    /// assert!(!origins.allow("http://localhost.evil.example"));
    /// assert!(!origins.allow("null"));
    /// ```
    #[must_use]
    pub fn allow(&self, origin: &str) -> bool {
        if self.any || self.exact.iter().any(|exact| exact == origin) {
            return true;
        }
        if origin == "null" {
            return self.null;
        }
        let Ok(origin) = normal(origin) else { return false };
        self.exact.contains(&origin)
            || (self.loopback && is_loopback(&origin))
            || self.subdomains.iter().any(|subdomains| subdomains.contain(&origin))
    }
}

/// The pages that may connect.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) allowed: Origins,
    /// The pages whose cookie is trusted.
    pub(crate) trusted: Origins,
}

impl From<Origins> for Pages {
    fn from(allowed: Origins) -> Self {
        Self { trusted: allowed.named(), allowed }
    }
}

impl Subdomains {
    fn parse(rule: &str) -> Result<Self, String> {
        let is_https = rule.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
        let is_http = rule.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
        let scheme = if is_https { "https://" } else { "http://" };
        let domain = rule.get(scheme.len()..).and_then(|rest| rest.strip_prefix("*."));
        let domain = domain.filter(|domain| (is_https || is_http) && !domain.contains('*'));
        let domain = domain.ok_or(
            "a * in place of all subdomains, as in https://*.example.com, and nowhere else (any port of this \
             machine is \"loopback\")",
        )?;
        let origin = page_origin(&format!("{scheme}{domain}"))?;
        let domain = origin.strip_prefix(scheme).unwrap_or_default();
        let host = domain.split(':').next().unwrap_or_default();
        // An address has no subdomains, and those of a whole top-level domain belong to everybody.
        let is_domain = host.trim_end_matches('.').contains('.') && !host.ends_with(|end: char| end.is_ascii_digit());
        if host != "localhost" && !is_domain {
            return Err("a domain with at least two parts after the *., as in https://*.example.com".into());
        }
        Ok(Self { scheme, suffix: format!(".{domain}") })
    }

    fn contain(&self, origin: &str) -> bool {
        let host = origin.strip_prefix(self.scheme).and_then(|rest| rest.strip_suffix(&*self.suffix));
        host.is_some_and(|host| !host.is_empty())
    }
}

/// The origin of a page in the form in which browsers send it, or what is expected instead.
fn page_origin(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        None => Err("an origin with its scheme, as in https://app.example.com".into()),
        Some((scheme, _)) if ["ws", "wss"].iter().any(|ws| scheme.eq_ignore_ascii_case(ws)) => {
            Err("the origin of a page, which begins with http:// or https:// (a program's own host is allowed)".into())
        }
        Some(_) => normal(text).map_err(str::to_owned),
    }
}

/// An origin in its canonical form (RFC 6454 §6.2): lower case, the host in ASCII, no default port.
fn normal(origin: &str) -> Result<String, &'static str> {
    const SHAPE: &str = "an origin, which has a scheme, a host and perhaps a port, and no path, as in \
                         https://app.example.com or https://app.example.com:8443";
    let (scheme, authority) = origin.split_once("://").ok_or(SHAPE)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let scheme = scheme.to_ascii_lowercase();
    let is_foreign = |c: char| matches!(c, '/' | '\\' | '?' | '#' | '@' | '%') || c.is_whitespace() || c.is_control();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !is_scheme || authority.contains(is_foreign) || (authority.is_empty() && scheme != "file") {
        return Err(SHAPE);
    }
    if !matches!(&*scheme, "http" | "https" | "ws" | "wss") {
        // The web views of apps, such as capacitor://localhost. They have no default port and no names to convert.
        let origin = format!("{scheme}://{}", authority.to_ascii_lowercase());
        return if origin.is_ascii() { Ok(origin) } else { Err(SHAPE) };
    }
    let url = Url::parse(&format!("{scheme}://{authority}")).map_err(|_| SHAPE)?;
    if url.port() == Some(0) { Err(SHAPE) } else { Ok(url.origin().ascii_serialization()) }
}

fn is_loopback(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        let port = authority.and_then(|authority| authority.strip_prefix(host));
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    })
}

/// Whether `origin` is of the host to which the request was sent (`Host`). Programs send this origin. A proxy may have
/// removed the port from `Host`.
pub(crate) fn is_of_host(origin: &str, host: &str) -> bool {
    let Ok(origin) = normal(origin) else { return false };
    let scheme = match origin.split_once("://") {
        Some(("http" | "ws", _)) => "http",
        Some(("https" | "wss", _)) => "https",
        _ => return false,
    };
    let Ok(own) = normal(&format!("{scheme}://{host}")) else { return false };
    let (Ok(origin), Ok(own)) = (Url::parse(&origin), Url::parse(&own)) else { return false };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let is_same_port = origin.port_or_known_default() == own.port_or_known_default();
    origin.host() == own.host() && (is_same_port || !has_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rules: &[&str]) -> Result<Origins, String> {
        Origins::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_rule_that_browsers_would_write_otherwise_is_converted() {
        for (rule, browsers_write) in [
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:80", "http://app.example.com"),
            ("http://app.example.com:443", "http://app.example.com:443"),
            ("https://app.example.com/", "https://app.example.com"),
            ("HTTPS://App.Example.COM", "https://app.example.com"),
            ("https://app.example.com:08443", "https://app.example.com:8443"),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("https://B\u{dc}CHER.example:8443/", "https://xn--bcher-kva.example:8443"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("http://127.0.0.1", "http://127.0.0.1"),
            ("https://intranet", "https://intranet"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Tauri://localhost/", "tauri://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("file://", "file://"),
        ] {
            let origins = parse(&[rule]).unwrap_or_else(|error| panic!("{rule}: {error}"));
            assert_eq!(origins.exact, [browsers_write], "{rule}");
            assert!(origins.allow(browsers_write) && origins.allow(rule), "{rule}");
            assert!(!origins.allow("null") && !origins.allow("https://evil.example"), "{rule}");
        }
    }

    #[test]
    fn a_rule_that_no_page_can_match_is_refused_with_a_hint() {
        for (rule, hint) in [
            ("app.example.com", "with its scheme"),
            ("localhost:3000", "with its scheme"),
            ("", "with its scheme"),
            ("https://", "no path"),
            ("https:///app", "no path"),
            ("https://app.example.com/chat", "no path"),
            ("https://app.example.com//", "no path"),
            ("https://app.example.com\\chat", "no path"),
            ("https://app.example.com?x", "no path"),
            ("https://app.example.com#x", "no path"),
            ("https://user@app.example.com", "no path"),
            ("https://app.example.com:0", "no path"),
            ("https://app.example.com:65536", "no path"),
            ("https://app.example.com:https", "no path"),
            ("https://app example.com", "no path"),
            ("https://a.example, https://b.example", "no path"),
            ("https://a%2eexample", "no path"),
            ("capacitor://", "no path"),
            ("capacitor://localhost/index.html", "no path"),
            ("capacitor://l\u{f6}calhost", "no path"),
            ("1app://x", "no path"),
            ("wss://app.example.com", "begins with http:// or https://"),
            ("https://*", "https://*.example.com"),
            ("https://*.com", "two parts"),
            ("https://*.1.1", "two parts"),
            ("https://*.127.0.0.1", "two parts"),
            ("https://*.", "no path"),
            ("https://app.*.example.com", "https://*.example.com"),
            ("https://*.*.example.com", "https://*.example.com"),
            ("https://app*.example.com", "https://*.example.com"),
            ("https://app.example.com:*", "https://*.example.com"),
            ("http://localhost:*", "loopback"),
            ("*://app.example.com", "https://*.example.com"),
            ("*.example.com", "https://*.example.com"),
            ("chrome-extension://*", "https://*.example.com"),
        ] {
            let error = parse(&["https://a.example", rule]).expect_err(rule);
            assert!(error.contains(hint) && error.contains(&format!("{rule:?}")), "{rule}: {error}");
        }
    }

    #[test]
    fn subdomains_at_any_depth_and_neither_the_domain_nor_its_likes() {
        let origins =
            parse(&["https://*.Example.com", "http://*.b\u{fc}cher.example:8080", "http://*.localhost"]).unwrap();
        for origin in [
            "https://app.example.com",
            "https://a.b.example.com",
            "https://APP.example.com:443",
            "http://x.xn--bcher-kva.example:8080",
            "http://app.localhost",
        ] {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://app.example.com.evil.example",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://evil.example/.example.com",
            "https://evil.example?.example.com",
            "https://user@evil.example#.example.com",
            "http://x.xn--bcher-kva.example",
            "null",
        ] {
            assert!(!origins.allow(origin), "{origin}");
        }
        assert!(!origins.named().allow("https://app.example.com"), "anybody may have a subdomain");
    }

    #[test]
    fn words_mean_what_they_say_and_trust_nobody() {
        let origins = parse(&["null"]).unwrap();
        assert!(origins.allow("null") && !origins.allow("https://app.example.com") && !origins.named().allow("null"));
        let origins = parse(&["*", "https://app.example.com"]).unwrap();
        assert!(origins.allow("https://evil.example") && origins.allow("null") && origins.allow("\u{fffd}"));
        assert!(origins.named().allow("https://app.example.com") && !origins.named().allow("https://evil.example"));
        let origins = parse(&["loopback"]).unwrap();
        for origin in ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:80", "HTTP://LOCALHOST"] {
            assert!(origins.allow(origin), "{origin}");
        }
        for origin in
            ["http://localhost.evil.example", "http://localhost:80@evil.example", "http://127.0.0.1.evil.example"]
        {
            assert!(!origins.allow(origin), "{origin}");
        }
    }

    #[test]
    fn the_own_host_is_known_with_and_without_its_port() {
        for (origin, host) in [
            ("https://gw.example.com", "gw.example.com"),
            ("https://gw.example.com:443", "gw.example.com"),
            ("https://gw.example.com", "gw.example.com:443"),
            ("wss://GW.example.com", "gw.example.com"),
            ("ws://gw.example.com:8080", "gw.example.com:8080"),
            ("http://gw.example.com:8080", "gw.example.com:8080"),
            ("https://gw.example.com:8443", "gw.example.com"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
            ("http://127.0.0.1/", "127.0.0.1"),
        ] {
            assert!(is_of_host(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "gw.example.com"),
            ("https://gw.example.com.evil.example", "gw.example.com"),
            ("https://app.gw.example.com", "gw.example.com"),
            ("http://gw.example.com:3000", "gw.example.com:8080"),
            ("http://gw.example.com", "gw.example.com:443"),
            ("null", "null"),
            ("capacitor://localhost", "localhost"),
            ("https://gw.example.com", ""),
            ("https://gw.example.com", "evil.example/gw.example.com"),
            ("https://gw.example.com", "gw.example.com@evil.example"),
        ] {
            assert!(!is_of_host(origin, host), "{origin} {host}");
        }
    }
}
