//! The address of one server.

use std::fmt;

/// Host and port of one server, as written in a URL or sent by Redis.
///
/// ```
/// use redis_topology::Node;
/// assert_eq!(Node::parse("[::1]:7000").unwrap(), Node { host: "::1".into(), port: 7000 });
/// assert_eq!(Node::parse("redis-1:7000").unwrap().to_string(), "redis-1:7000");
/// assert_eq!(Node::parse("::1:7000").unwrap().to_string(), "[::1]:7000", "Redis writes no brackets");
/// assert_eq!(Node::parse("redis-1"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// A name, or an address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Node {
    /// Parses `HOST:PORT`. The host may be empty: Redis leaves it out if it does not know its own.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// The host in an answer of `asked`. A server that does not know how it is reached leaves its host out, or writes
    /// `?` if it has no name and names are preferred: it is reached as the server that was asked.
    pub(crate) fn known_host<'h>(host: &'h str, asked: &'h str) -> &'h str {
        if matches!(host, "" | "?") { asked } else { host }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
