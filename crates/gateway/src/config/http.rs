//! How clients reach the main port: `[http]`.

use super::origins::Origins;
use super::paths::Paths;
use super::raw::RawConfig;
use super::session_cookie::SessionCookie;

/// The checked values of `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The pages that may connect.
    pub allowed_origins: Origins,
    /// The cookie for load balancers.
    pub session_cookie: SessionCookie,
    /// The paths at which clients connect.
    pub paths: Paths,
}

impl HttpConfig {
    pub(super) fn check(raw: &RawConfig, has_tls: bool) -> Self {
        let allowed_origins = Origins::parse(&raw.texts("http.allowed_origins"));
        let allowed_origins = allowed_origins.unwrap_or_else(|expected| {
            raw.wrong("http.allowed_origins", expected);
            Origins::default()
        });
        let session_cookie = SessionCookie::check(raw, has_tls);
        Self { allowed_origins, session_cookie, paths: Paths::check(raw) }
    }
}
