//! The paths of the main port.

use hyper::Method;
use wire::TenantId;

use crate::http::percent::percent_decode;
use crate::http::refusal::Refusal;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// A WebSocket upgrade: `/ws` or `/ws/{tenant}`.
    Upgrade(Option<TenantId>),
    /// An event stream: `/sse` or `/sse/{tenant}`.
    EventStream(Option<TenantId>),
    /// A preflight request, which a page of another origin sends before it opens an event stream.
    Preflight,
    /// `/ws/health`, for HAProxy. A tenant named `health` connects to `/ws`.
    Health,
    /// `/livez`, for liveness probes.
    Livez,
    /// `/readyz`, for readiness probes.
    Readyz,
    /// Every other path, in development.
    Page,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str, has_page: bool) -> Result<Self, Refusal> {
        let route = match path {
            "/ws" => Self::Upgrade(None),
            "/ws/health" => Self::Health,
            "/sse" => Self::EventStream(None),
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            _ => match (path.strip_prefix("/ws/"), path.strip_prefix("/sse/")) {
                (Some(tenant), _) => Self::Upgrade(Some(read_tenant(tenant).ok_or(Refusal::not_found())?)),
                (_, Some(tenant)) => Self::EventStream(Some(read_tenant(tenant).ok_or(Refusal::not_found())?)),
                _ if has_page => Self::Page,
                _ => return Err(Refusal::not_found()),
            },
        };
        match route {
            Self::EventStream(_) if method == Method::OPTIONS => Ok(Self::Preflight),
            Self::EventStream(_) if method != Method::GET => Err(Refusal::method_not_allowed("GET, OPTIONS")),
            Self::Upgrade(_) if method != Method::GET => Err(Refusal::method_not_allowed("GET")),
            _ if method != Method::GET && method != Method::HEAD => Err(Refusal::method_not_allowed("GET, HEAD")),
            route => Ok(route),
        }
    }
}

/// Names need no escapes in a path, but `encodeURIComponent` writes some.
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
            (Method::GET, "/sse", Ok(Route::EventStream(None))),
            (Method::GET, "/sse/acme", Ok(Route::EventStream(tenant("acme")))),
            (Method::OPTIONS, "/sse", Ok(Route::Preflight)),
            (Method::OPTIONS, "/ws", Err(Refusal::method_not_allowed("GET"))),
            (Method::POST, "/sse", Err(Refusal::method_not_allowed("GET, OPTIONS"))),
            (Method::GET, "/sse/", Err(Refusal::not_found())),
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
