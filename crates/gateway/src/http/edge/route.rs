//! The paths of the main port.

use hyper::Method;
use wire::TenantId;

use crate::config::Paths;
use crate::config::paths::Transport;
use crate::http::percent::percent_decode;
use crate::http::refusal::Refusal;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// A WebSocket upgrade: `/ws` or `/ws/{tenant}`, unless other paths are configured.
    Upgrade(Option<TenantId>),
    /// An event stream: `/sse` or `/sse/{tenant}`, unless other paths are configured.
    EventStream(Option<TenantId>),
    /// A preflight request, which a page of another origin sends before it opens an event stream.
    Preflight,
    /// `/ws/health`, for HAProxy, and the same below other paths of WebSockets. A tenant named `health` connects to `/ws`.
    Health,
    /// `/livez`, for liveness probes.
    Livez,
    /// `/readyz`, for readiness probes.
    Readyz,
    /// Every other path, in development.
    Page,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str, paths: &Paths, has_page: bool) -> Result<Self, Refusal> {
        let route = match path {
            "/ws/health" => Self::Health,
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            _ => match paths.find(path) {
                Some((Transport::WebSocket, Some("health"))) => Self::Health,
                Some((Transport::WebSocket, tenant)) => Self::Upgrade(read_tenant(tenant)?),
                Some((Transport::EventStream, tenant)) => Self::EventStream(read_tenant(tenant)?),
                None if has_page => Self::Page,
                None => return Err(Refusal::not_found()),
            },
        };
        match route {
            Self::EventStream(_) if method == Method::OPTIONS => Ok(Self::Preflight),
            Self::EventStream(_) if method != Method::GET => Err(Refusal::method_not_allowed("GET, OPTIONS")),
            Self::Upgrade(_) if method != Method::GET => Err(Refusal::method_not_allowed("GET")),
            // The page says itself which methods its paths support.
            Self::Page => Ok(route),
            _ if method != Method::GET && method != Method::HEAD => Err(Refusal::method_not_allowed("GET, HEAD")),
            route => Ok(route),
        }
    }
}

/// Names need no escapes in a path, but `encodeURIComponent` writes some.
fn read_tenant(segment: Option<&str>) -> Result<Option<TenantId>, Refusal> {
    let Some(segment) = segment else { return Ok(None) };
    let tenant = percent_decode(segment).and_then(|name| TenantId::parse(&name).ok());
    tenant.map(Some).ok_or(Refusal::not_found())
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
            (Method::GET, "/sse/", Ok(Route::EventStream(None))),
            (Method::OPTIONS, "/sse/acme/", Ok(Route::Preflight)),
            (Method::GET, "/sse//", Err(Refusal::not_found())),
            (Method::GET, "/livez", Ok(Route::Livez)),
            (Method::GET, "/readyz", Ok(Route::Readyz)),
            (Method::POST, "/ws", Err(Refusal::method_not_allowed("GET"))),
            (Method::HEAD, "/ws/acme", Err(Refusal::method_not_allowed("GET"))),
            (Method::DELETE, "/livez", Err(Refusal::method_not_allowed("GET, HEAD"))),
            (Method::GET, "/ws/", Ok(Route::Upgrade(None))),
            (Method::GET, "/ws/acme/", Ok(Route::Upgrade(tenant("acme")))),
            (Method::GET, "/ws/health/", Ok(Route::Health)),
            (Method::GET, "/ws//", Err(Refusal::not_found())),
            (Method::GET, "//ws", Err(Refusal::not_found())),
            (Method::GET, "/WS", Err(Refusal::not_found())),
            (Method::GET, "/ws/a/b", Err(Refusal::not_found())),
            (Method::GET, "/ws/a%2Fb", Err(Refusal::not_found())),
            (Method::GET, "/wss", Err(Refusal::not_found())),
            (Method::POST, "/nowhere", Err(Refusal::not_found())),
            (Method::GET, "/", Err(Refusal::not_found())),
        ] {
            assert_eq!(Route::of(&method, path, &Paths::default(), false), expected, "{method} {path}");
        }
        assert_eq!(Route::of(&Method::GET, "/", &Paths::default(), true), Ok(Route::Page));
    }

    #[test]
    fn configured_paths_take_the_place_of_ours_and_probes_stay() {
        let tenant = |name| Some(TenantId::parse(name).unwrap());
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let paths = Paths { websocket: list(&["/app/realtime", "/app", ""]), event_stream: list(&["/app/events"]) };
        for (path, expected) in [
            ("/app/realtime", Ok(Route::Upgrade(None))),
            ("/app/realtime/acme", Ok(Route::Upgrade(tenant("acme")))),
            ("/app/realtime/health", Ok(Route::Health)),
            ("/app", Ok(Route::Upgrade(None))),
            ("/", Ok(Route::Upgrade(None))),
            ("/acme", Ok(Route::Upgrade(tenant("acme")))),
            ("/ws/health", Ok(Route::Health)),
            ("/livez", Ok(Route::Livez)),
            ("/readyz", Ok(Route::Readyz)),
            ("/health", Ok(Route::Health)),
            ("/a/b", Err(Refusal::not_found())),
        ] {
            assert_eq!(Route::of(&Method::GET, path, &paths, false), expected, "{path}");
        }
        let paths = Paths { websocket: list(&["/realtime"]), event_stream: list(&["/realtime/events"]) };
        assert_eq!(Route::of(&Method::GET, "/realtime/events", &paths, false), Ok(Route::EventStream(None)));
        assert_eq!(Route::of(&Method::GET, "/ws", &paths, false), Err(Refusal::not_found()));
    }
}
