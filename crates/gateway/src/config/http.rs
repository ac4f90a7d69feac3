//! The pages that may open connections: `http.allowed_origins`.

/// The origins from which a browser may connect. A client that sends no `Origin` is not a browser and is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// `*`: every page. This is safe if the page supplies the token, and unsafe if the cookie carries it.
    pub any: bool,
    /// `loopback`: any port of localhost, 127.0.0.1 and [::1], for development.
    pub loopback: bool,
    /// Allowed origins, compared byte by byte with the `Origin` header.
    pub exact: Vec<String>,
}

impl Origins {
    /// Converts the checked list of `http.allowed_origins`.
    pub(crate) fn new(rules: Vec<String>) -> Self {
        let has = |rule: &str| rules.iter().any(|r| r == rule);
        let (any, loopback) = (has("*"), has("loopback"));
        Self { any, loopback, exact: rules.into_iter().filter(|rule| rule.contains("://")).collect() }
    }

    /// Whether a page of `origin` may connect.
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
        self.any || (self.loopback && is_loopback(origin)) || self.exact.iter().any(|exact| exact == origin)
    }
}

/// Whether `http.allowed_origins` accepts `rule`. An origin has no path, not even a slash.
pub(crate) fn is_origin_rule(rule: &str) -> bool {
    let is_origin = || {
        let authority = rule.strip_prefix("https://").or_else(|| rule.strip_prefix("http://"));
        let wrong = |c: char| matches!(c, '/' | '?' | '#' | '@' | '*') || c.is_whitespace() || c.is_uppercase();
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(wrong))
    };
    rule == "*" || rule == "loopback" || is_origin()
}

fn is_loopback(origin: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        let port = authority.and_then(|authority| authority.strip_prefix(host));
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    })
}
