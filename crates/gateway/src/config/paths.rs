//! The paths at which clients connect: `http.websocket_paths` and `http.event_stream_paths`.

use super::raw::RawConfig;

const WEBSOCKET: &str = "http.websocket_paths";
const EVENT_STREAM: &str = "http.event_stream_paths";

/// Paths that always answer probes.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// The paths of each transport, without a slash at the end. A tenant may follow each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Paths of WebSockets.
    pub websocket: Vec<String>,
    /// Paths of event streams.
    pub event_stream: Vec<String>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { websocket: vec!["/ws".into()], event_stream: vec!["/sse".into()] }
    }
}

impl Paths {
    pub(super) fn check(raw: &RawConfig) -> Self {
        let read = |name| {
            let mut paths = raw.texts(name);
            paths.iter_mut().for_each(|path| path.truncate(path.trim_end_matches('/').len()));
            paths
        };
        let paths = Self { websocket: read(WEBSOCKET), event_stream: read(EVENT_STREAM) };
        for (name, list) in [(WEBSOCKET, &paths.websocket), (EVENT_STREAM, &paths.event_stream)] {
            if let Some(probe) = PROBES.iter().find(|probe| list.iter().any(|path| path == *probe)) {
                raw.wrong(name, format!("another path than {probe}, which answers probes"));
            }
            if raw.flag("dev_page") && list.iter().any(String::is_empty) {
                raw.wrong(name, "another path than /, where the dev page is (dev_page = false turns it off)");
            }
        }
        if let Some(path) = paths.event_stream.iter().find(|path| paths.websocket.contains(path)) {
            raw.wrong(EVENT_STREAM, format!("other paths than {WEBSOCKET}, which has \"{path}\" too"));
        }
        paths
    }

    /// The transport to which `path` leads, and the segments that follow its longest configured path. A slash at the end
    /// makes no difference.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(Transport, Option<&'p str>)> {
        let websocket = self.websocket.iter().map(|base| (base, Transport::WebSocket));
        let all = websocket.chain(self.event_stream.iter().map(|base| (base, Transport::EventStream)));
        let found = all.filter_map(|(base, transport)| Some((base.len(), transport, after(base, path)?)));
        found.max_by_key(|(len, ..)| *len).map(|(_, transport, rest)| (transport, rest))
    }
}

/// What answers at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    EventStream,
}

fn after<'p>(base: &str, path: &'p str) -> Option<Option<&'p str>> {
    match path.strip_prefix(base)? {
        "" | "/" => Some(None),
        rest => rest.strip_prefix('/').map(|rest| Some(rest.strip_suffix('/').unwrap_or(rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_counts_and_a_slash_at_its_end_does_not() {
        use Transport::{EventStream, WebSocket};
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let mut paths = Paths { websocket: list(&["/ws", "/ws/v2"]), event_stream: list(&["/ws/events"]) };
        for (path, expected) in [
            ("/ws", Some((WebSocket, None))),
            ("/ws/", Some((WebSocket, None))),
            ("/ws/acme", Some((WebSocket, Some("acme")))),
            ("/ws/acme/", Some((WebSocket, Some("acme")))),
            ("/ws/v2", Some((WebSocket, None))),
            ("/ws/v2/acme", Some((WebSocket, Some("acme")))),
            ("/ws/events/acme", Some((EventStream, Some("acme")))),
            ("/ws//", Some((WebSocket, Some("")))),
            ("/ws/a/b", Some((WebSocket, Some("a/b")))),
            ("/", None),
            ("/wss", None),
        ] {
            assert_eq!(paths.find(path), expected, "{path}");
        }
        paths.websocket.push(String::new());
        assert_eq!(paths.find("/"), Some((WebSocket, None)));
        assert_eq!(paths.find("/wss"), Some((WebSocket, Some("wss"))));
    }
}
