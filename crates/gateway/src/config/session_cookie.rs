//! The routing cookie: `http.session_cookie` and `http.session_cookie_secure`.

use super::raw::RawConfig;

/// The name that sets no cookie.
const NONE: &str = "none";

/// The cookie by which a load balancer keeps a client at its instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// Its name. Without one, the gateway sets no cookie.
    pub name: Option<String>,
    /// When it has the attribute `Secure`.
    pub secure: Secure,
}

/// When a cookie has the attribute `Secure`: browsers then return it only over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// If the request came through TLS, as the listener or a proxy's header says.
    Auto,
    Always,
    Never,
}

impl SessionCookie {
    pub(super) fn check(raw: &RawConfig, has_tls: bool) -> Self {
        let name = Some(raw.text("http.session_cookie")).filter(|name| *name != NONE).map(str::to_owned);
        if name.as_deref() == Some(raw.text("auth.cookie")) {
            raw.wrong("http.session_cookie", "another name than auth.cookie, which carries the token");
        }
        // Browsers drop a cookie of such a name that is not secure (RFC 6265bis §4.1.3).
        let prefixes = ["__secure-", "__host-"];
        let needs_secure = name.as_ref().is_some_and(|name| {
            prefixes
                .iter()
                .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
        });
        let secure = match raw.text("http.session_cookie_secure") {
            "never" if needs_secure => {
                raw.wrong(
                    "http.session_cookie_secure",
                    "auto or always, which the prefix of http.session_cookie needs",
                );
                Secure::Never
            }
            "never" => Secure::Never,
            "always" => Secure::Always,
            _ if needs_secure || has_tls => Secure::Always,
            _ => Secure::Auto,
        };
        Self { name, secure }
    }
}
