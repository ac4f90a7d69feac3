//! A Redis URL, parsed and checked, and how to find the server behind it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use keyspace::Slot;
use redis::{ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::map::ClusterMap;
use crate::node::Node;
use crate::sentinel::{SentinelError, Sentinels};
use crate::socket::{RedisSocket, connect, connection_info, open_within};
use crate::tls::RedisTls;
use crate::tls_files::{BadRedisTls, TlsFiles};
use crate::url::{RedisUrl, has_stray_characters};

/// Longest time for each step when a server is asked for the map of its cluster.
const MAP_DEADLINE: Duration = Duration::from_secs(1);

/// After this time without an answer the next server is asked as well: the machine of the first one may be gone, and
/// the caller has little more time than `MAP_DEADLINE`.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// Where Redis is, and the user and password for it. Its `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Target {
    topology: Topology,
    settings: RedisConnectionInfo,
    tls: Option<RedisTls>,
}

/// How the servers are related.
#[derive(Debug, Clone)]
pub enum Topology {
    /// One server, or a name that always leads to the primary.
    Standalone(Node),
    /// A primary with replicas, watched by Sentinels that know the primary.
    Sentinel(Sentinels),
    /// A cluster: several primaries, each with a part of the slots. These nodes are asked for the map.
    Cluster(Vec<Node>),
}

/// Why a text is not a usable Redis URL. No variant repeats the text, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisUrl {
    /// The URL asks for TLS, which is not possible.
    #[error(transparent)]
    Tls(#[from] BadRedisTls),
    /// `unix:` and similar schemes.
    #[error("a Redis socket in the file system is not supported: write redis://HOST:PORT")]
    Unix,
    /// White space or control characters within the URL.
    #[error("a Redis URL has no white space and no control characters within; in a password a space is written %20")]
    Stray,
    /// Another scheme, or none.
    #[error(
        "a Redis URL begins with redis://, redis+sentinel:// or redis+cluster:// (valkey in place of redis, and rediss or \
         valkeys for TLS)"
    )]
    Scheme,
    /// The URL does not name one server.
    #[error("one Redis is redis://[USER:PASSWORD@]HOST[:PORT][/DB]: {0}")]
    Standalone(String),
    /// The URL does not name Sentinels and a master.
    #[error("Sentinels are redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…/MASTER[/DB]: {0}")]
    Sentinel(String),
    /// The URL does not name servers of a cluster.
    #[error("a cluster is redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…: {0}")]
    Cluster(String),
}

/// Why there is no server to call at the moment.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The Sentinels do not name the primary.
    #[error(transparent)]
    Sentinel(#[from] SentinelError),
    /// No server of the cluster answers.
    #[error("no node of the Redis Cluster answers: {0}")]
    Cluster(String),
    /// No server has the slot.
    #[error("slot {0} of the Redis Cluster is served by no node")]
    Unserved(u16),
}

/// Where the primaries are at a moment.
#[derive(Debug, Clone)]
pub enum PrimaryLocation {
    /// One primary has all slots.
    One(Node),
    /// Each primary has its own slots.
    Map(ClusterMap),
}

// === impl PrimaryLocation ===

impl PrimaryLocation {
    /// The primary of a slot.
    ///
    /// # Errors
    /// If no primary has the slot.
    pub fn node(&self, slot: Slot) -> Result<&Node, LocateError> {
        match self {
            Self::One(node) => Ok(node),
            Self::Map(map) => map.owner(slot).ok_or(LocateError::Unserved(slot.number())),
        }
    }
}

// === impl Target ===

impl Target {
    /// Parses a URL. `valkey` may stand for `redis` in it.
    ///
    /// ```
    /// use redis_topology::{BadRedisUrl, Target, Topology};
    /// let target = Target::parse("redis+cluster://alice:p%40ss@redis-1:7000,redis-2").unwrap();
    /// assert_eq!(target.to_string(), "redis-1:7000,redis-2:6379");
    /// assert!(matches!(Target::parse("redis://redis-1?db=3"), Err(BadRedisUrl::Standalone(_))));
    /// ```
    ///
    /// # Errors
    /// If the form of the URL is unknown, or the URL names something that is not supported.
    pub fn parse(url: &str) -> Result<Self, BadRedisUrl> {
        Self::parse_with(url, &TlsFiles::default())
    }

    /// As [`Self::parse`], with the certificates for a URL that asks for TLS.
    ///
    /// # Errors
    /// The same, and if the certificates cannot be used.
    pub fn parse_with(url: &str, files: &TlsFiles) -> Result<Self, BadRedisUrl> {
        // A line end comes with every secret that was written by an editor or by `echo`.
        let url = url.trim();
        if has_stray_characters(url) {
            return Err(BadRedisUrl::Stray);
        }
        let (scheme, rest) = url.split_once("://").or_else(|| url.split_once(':')).ok_or(BadRedisUrl::Scheme)?;
        let (product, kind) = scheme.split_once('+').map_or((scheme, ""), |(product, kind)| (product, kind));
        let is_tls = match product {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" => return Err(BadRedisUrl::Unix),
            _ => return Err(BadRedisUrl::Scheme),
        };
        let tls = || if is_tls { RedisTls::new(files).map(Some).map_err(BadRedisUrl::Tls) } else { Ok(None) };
        match kind {
            "" => Self::parse_standalone(rest, tls()?).map_err(BadRedisUrl::Standalone),
            "sentinel" => Self::parse_sentinel(rest, tls()?).map_err(BadRedisUrl::Sentinel),
            "cluster" => Self::parse_cluster(rest, tls()?).map_err(BadRedisUrl::Cluster),
            "unix" => Err(BadRedisUrl::Unix),
            _ => Err(BadRedisUrl::Scheme),
        }
    }

    /// Whether the URL asks for TLS.
    ///
    /// ```
    /// use redis_topology::Target;
    /// assert!(Target::asks_for_tls("rediss+sentinel://redis-1/main"));
    /// assert!(!Target::asks_for_tls("redis://redis-1"));
    /// ```
    #[must_use]
    pub fn asks_for_tls(url: &str) -> bool {
        let product = url.trim().split([':', '+']).next();
        matches!(product, Some("rediss" | "valkeys"))
    }

    fn parse_standalone(rest: &str, tls: Option<RedisTls>) -> Result<Self, String> {
        let RedisUrl { settings, mut nodes, path, query } = RedisUrl::parse(rest, 6379)?;
        if nodes.len() > 1 {
            return Err("several hosts are redis+sentinel:// or redis+cluster://".to_owned());
        }
        if let Some((name, _)) = query.first() {
            return Err(RedisUrl::refuse_parameter(name, "nothing"));
        }
        let db = if path.is_empty() { 0 } else { RedisUrl::parse_database(&path)? };
        let node = nodes.pop().expect("a URL has at least one host");
        Ok(Self { topology: Topology::Standalone(node), settings: settings.set_db(db), tls })
    }

    fn parse_sentinel(rest: &str, tls: Option<RedisTls>) -> Result<Self, String> {
        let RedisUrl { settings, nodes, path, query } = RedisUrl::parse(rest, 26379)?;
        let (master, db) = path.split_once('/').unwrap_or((&path, "0"));
        if master.is_empty() {
            return Err("the name of the master is missing; SENTINEL MASTERS tells it".to_owned());
        }
        // Sentinel takes these characters in a master's name, and a URL leaves them as they are.
        if !master.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
            return Err("the name of the master is letters, digits and - . _".to_owned());
        }
        // Sentinels have users of their own. Without these parameters none is used, as most Sentinels run without
        // users.
        let (mut user, mut password) = (None, None);
        for (name, value) in query {
            match &*name {
                "sentinel_user" | "sentinel_password" if value.is_empty() => return Err(format!("{name} is empty")),
                "sentinel_user" => user = Some(value),
                "sentinel_password" => password = Some(value),
                other => return Err(RedisUrl::refuse_parameter(other, "only sentinel_user=… and sentinel_password=…")),
            }
        }
        let mut sentinel_settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        match (user, password) {
            (None, None) => {}
            (Some(_), None) => return Err("sentinel_user needs sentinel_password".to_owned()),
            (user, Some(password)) => {
                sentinel_settings = sentinel_settings.set_password(password);
                if let Some(user) = user {
                    sentinel_settings = sentinel_settings.set_username(user);
                }
            }
        }
        let settings = settings.set_db(RedisUrl::parse_database(db)?);
        let sentinels = Sentinels::new(nodes, master.to_owned(), sentinel_settings, tls.clone());
        Ok(Self { topology: Topology::Sentinel(sentinels), settings, tls })
    }

    fn parse_cluster(rest: &str, tls: Option<RedisTls>) -> Result<Self, String> {
        let RedisUrl { settings, nodes, path, query } = RedisUrl::parse(rest, 6379)?;
        if !matches!(&*path, "" | "0") {
            return Err("it has the database 0 alone".to_owned());
        }
        if let Some((name, _)) = query.first() {
            return Err(RedisUrl::refuse_parameter(name, "nothing"));
        }
        Ok(Self { topology: Topology::Cluster(nodes), settings, tls })
    }

    /// Uses the certificates of `other` for connections that are opened from now on, by all clones of this target. Nothing
    /// happens if one of the two speaks no TLS.
    pub fn replace_certificates(&self, other: &Self) {
        if let (Some(own), Some(other)) = (&self.tls, &other.tls) {
            own.replace(other);
        }
    }

    /// Changes when the certificates are replaced.
    pub(crate) fn certificates(&self) -> u64 {
        self.tls.as_ref().map_or(0, RedisTls::generation)
    }

    /// How the servers are related.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// User, password and database, for each of the servers.
    #[must_use]
    pub fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// How to connect to one of the servers.
    #[must_use]
    pub fn info(&self, node: &Node) -> ConnectionInfo {
        connection_info(node, &self.settings, self.tls.as_ref())
    }

    /// Opens a socket to one of the servers, at an address of its host.
    ///
    /// # Errors
    /// If it does not accept the connection, or is not trusted.
    pub async fn connect(&self, node: &Node, address: SocketAddr) -> io::Result<RedisSocket> {
        connect(address, &node.host, self.tls.as_ref()).await
    }

    /// The server that has a slot; a single primary has all of them. It may have changed when the answer arrives.
    ///
    /// # Errors
    /// If the location cannot be found.
    pub async fn locate(&self, slot: Slot) -> Result<Node, LocateError> {
        self.find().await?.node(slot).cloned()
    }

    /// As [`Self::locate`], for all slots at once.
    ///
    /// # Errors
    /// If the location cannot be found.
    pub async fn find(&self) -> Result<PrimaryLocation, LocateError> {
        match &self.topology {
            Topology::Standalone(node) => Ok(PrimaryLocation::One(node.clone())),
            Topology::Sentinel(sentinels) => Ok(PrimaryLocation::One(sentinels.primary().await?)),
            Topology::Cluster(nodes) => Ok(PrimaryLocation::Map(self.ask_for_map(nodes).await?)),
        }
    }

    /// Whether this is still the newest location that is known. It sends no query.
    #[must_use]
    pub fn is_current(&self, place: &PrimaryLocation) -> bool {
        match (&self.topology, place) {
            (Topology::Sentinel(sentinels), PrimaryLocation::One(node)) => sentinels.is_current(node),
            _ => true,
        }
    }

    /// The map of the cluster from the first server that answers. The servers are asked in order, the next one when
    /// the last has failed or is slow.
    ///
    /// # Errors
    /// If none answers.
    pub async fn ask_for_map(&self, nodes: &[Node]) -> Result<ClusterMap, LocateError> {
        self.ask_for_map_within(nodes, MAP_DEADLINE).await
    }

    async fn ask_for_map_within(&self, nodes: &[Node], deadline: Duration) -> Result<ClusterMap, LocateError> {
        let (mut waiting, mut asked, mut failures) = (nodes.iter(), JoinSet::new(), Vec::new());
        loop {
            if let Some(node) = waiting.next().cloned() {
                let target = self.clone();
                asked.spawn(
                    async move { target.map_of(&node, deadline).await.map_err(|error| format!("{node}: {error}")) },
                );
            }
            let patience = if waiting.len() > 0 { NEXT_AFTER } else { Duration::MAX };
            match timeout(patience, asked.join_next()).await {
                Ok(Some(answer)) => match answer.expect("a question does not panic, and is aborted only with all") {
                    Ok(map) => return Ok(map),
                    Err(failure) => failures.push(failure),
                },
                Ok(None) => return Err(LocateError::Cluster(failures.join("; "))),
                Err(_) => {} // It may still be the first.
            }
        }
    }

    async fn map_of(&self, node: &Node, deadline: Duration) -> Result<ClusterMap, RedisError> {
        let mut connection = open_within(self.info(node), deadline).await?;
        let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        let nodes: Result<String, _> = redis::cmd("CLUSTER").arg("NODES").query_async(&mut connection).await;
        let nodes = match nodes {
            Ok(nodes) => Some(nodes),
            // The command is not offered, or the user may not call it.
            Err(error) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => None,
            Err(error) => return Err(error),
        };
        let other = || RedisError::from((ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS has another answer"));
        ClusterMap::combine(&slots, nodes.as_deref(), &node.host).ok_or_else(other)
    }
}

/// The servers, for the log.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Node]| nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",");
        match &self.topology {
            Topology::Standalone(node) => write!(f, "{node}"),
            Topology::Sentinel(sentinels) => write!(f, "{} by {}", sentinels.master, list(&sentinels.nodes)),
            Topology::Cluster(nodes) => f.write_str(&list(nodes)),
        }
    }
}

#[cfg(test)]
mod tests;
