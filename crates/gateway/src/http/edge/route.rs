//! Paths of the main port.

use hyper::Method;
use wire::TenantId;

use crate::http::percent::percent_decode;
use crate::http::refusal::Refusal;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/ws`, `/ws/{tenant}`
    Upgrade(Option<TenantId>),
    /// `/ws/health`, for HAProxy. A tenant of that name connects to `/ws`.
    Health,
    /// `/livez`
    Livez,
    /// `/readyz`
    Readyz,
    /// Everything else, in development.
    Page,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str, has_page: bool) -> Result<Self, Refusal> {
        let route = match path {
            "/ws" => Self::Upgrade(None),
            "/ws/health" => Self::Health,
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            _ => match path.strip_prefix("/ws/") {
                Some(tenant) => Self::Upgrade(Some(read_tenant(tenant).ok_or(Refusal::not_found())?)),
                None if has_page => Self::Page,
                None => return Err(Refusal::not_found()),
            },
        };
        match route {
            Self::Upgrade(_) if method != Method::GET => Err(Refusal::method_not_allowed("GET")),
            _ if method != Method::GET && method != Method::HEAD => Err(Refusal::method_not_allowed("GET, HEAD")),
            route => Ok(route),
        }
    }
}

/// Names need no escapes in a path, yet `encodeURIComponent` writes some.
fn read_tenant(segment: &str) -> Option<TenantId> {
    TenantId::parse(&percent_decode(segment)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let tenant = |name| Some(TenantId::parse(name).unwrap());
        for (method, path, expected) in [
            (Method::GET, "/ws", Ok(Route::Upgrade(None))),
            (Method::GET, "/ws/acme", Ok(Route::Upgrade(tenant("acme")))),
            (Method::GET, "/ws/a%40b", Ok(Route::Upgrade(tenant("a@b")))),
            (Method::GET, "/ws/health", Ok(Route::Health)),
            (Method::HEAD, "/ws/health", Ok(Route::Health)),
            (Method::GET, "/livez", Ok(Route::Livez)),
            (Method::GET, "/readyz", Ok(Route::Readyz)),
            (Method::POST, "/ws", Err(Refusal::method_not_allowed("GET"))),
            (Method::HEAD, "/ws/acme", Err(Refusal::method_not_allowed("GET"))),
            (Method::DELETE, "/livez", Err(Refusal::method_not_allowed("GET, HEAD"))),
            (Method::GET, "/ws/", Err(Refusal::not_found())),
            (Method::GET, "/ws/a/b", Err(Refusal::not_found())),
            (Method::GET, "/ws/a%2Fb", Err(Refusal::not_found())),
            (Method::GET, "/wss", Err(Refusal::not_found())),
            (Method::POST, "/nowhere", Err(Refusal::not_found())),
            (Method::GET, "/", Err(Refusal::not_found())),
        ] {
            assert_eq!(Route::of(&method, path, false), expected, "{method} {path}");
        }
        assert_eq!(Route::of(&Method::GET, "/", true), Ok(Route::Page));
    }
}
