//! Opens a connection pair: both connections to one address, a server of the right kind, this gateway's library, and a
//! probe that has come back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis_topology::{CommandError, LibraryLoader, Loading, LocateError, Node, Redirection, Topology};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cluster_router::ClusterRouter;
use super::command_connection::CommandConnection;
use super::config::RedisBrokerConfig;
use super::connection_pair::{ConnectionPair, Disconnected};
use super::failover_listener::listen_for_failover;
use super::pending_calls::CALL_BYTES;
use super::replicas::Replicas;
use super::resp::{PushFrame, Value};
use super::subscriber::{Subscriber, SubscriberError};

/// The first Redis version with functions.
const VERSION_MIN: u32 = 7;
/// Calls that `PendingCalls` does not bound: probes until their deadline, and a load of the library.
const UNCOUNTED_CALLS_MAX: usize = 16;

/// Why a connection pair could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("cannot find the Redis host {0:?}: {1}")]
    Resolve(String, io::Error),
    #[error("cannot connect to Redis at {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("Redis at {0} took longer than {1} ms to begin with")]
    Late(String, u128),
    #[error("Redis refused the connection: {0}")]
    Refused(String),
    #[error("this is no Redis, or one before version {VERSION_MIN}: {0}")]
    WrongServer(String),
    #[error("Redis at {0} is a replica, and the primary is needed")]
    Replica(Node),
    #[error("another server has taken the place of {0} meanwhile")]
    Replaced(Node),
    #[error("{0} serves no slot of the cluster")]
    Idle(Node),
    #[error("Redis at {0} is {1}")]
    Topology(Node, &'static str),
    #[error("Redis evicts keys at random when full (maxmemory-policy {0}): set noeviction, or volatile-ttl at least")]
    Evicts(String),
    #[error("Redis does not take the function library: {0}")]
    Library(CommandError),
    #[error("Redis does not pass a message on: {0}")]
    Probe(CommandError),
    #[error(transparent)]
    Call(#[from] CommandError),
    #[error(transparent)]
    Subscriber(#[from] SubscriberError),
}

/// Which server a connection pair leads to.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    /// The primary, wherever it is at the time.
    Primary,
    /// This node of a cluster.
    Node(Node, Arc<ClusterRouter>),
}

/// Opens a connection pair and tests it with a probe.
pub(super) async fn set_up(config: Arc<RedisBrokerConfig>, endpoint: Endpoint) -> Result<ConnectionPair, SetupError> {
    // Each step is one round trip, so twice the deadline of a call is enough for all.
    let deadline = Duration::from_millis(config.reply_deadline_ms) * 2;
    let late = SetupError::Late(config.target.to_string(), deadline.as_millis());
    timeout(deadline, open(config, endpoint)).await.unwrap_or(Err(late))
}

async fn open(config: Arc<RedisBrokerConfig>, endpoint: Endpoint) -> Result<ConnectionPair, SetupError> {
    let node = match (&endpoint, config.target.topology()) {
        (Endpoint::Node(node, _), _) | (Endpoint::Primary, Topology::Standalone(node)) => node.clone(),
        (Endpoint::Primary, Topology::Sentinel(sentinels)) => sentinels.primary().await.map_err(LocateError::from)?,
        (Endpoint::Primary, Topology::Cluster(_)) => unreachable!("a cluster has no single primary"),
    };
    let (address, mut subscriber) = open_subscriber(&config, &node).await?;
    let mut driver = JoinSet::new();
    let command_connection = open_command_connection(&config, (&node, address), &mut driver).await?;
    let replicas = match config.asks_replicas && matches!(endpoint, Endpoint::Primary) {
        true => Some(open_replicas(&config, (&node, address), &mut driver).await?),
        false => None,
    };
    if let Topology::Sentinel(sentinels) = config.target.topology() {
        driver.spawn(listen_for_failover(sentinels.clone(), node.clone()));
    }
    check_eviction(&command_connection).await?;
    command_connection.load_library().await.map_err(SetupError::Library)?;

    let channel = subscribe_to_probe(&config, &endpoint, &mut subscriber).await?;
    // The text is random: a late echo of an earlier pair, or of a second instance of this name, proves nothing.
    let word = format!("{:016x}", super::random());
    command_connection.clone().probe(&channel, &word).await.map_err(SetupError::Probe)?;
    loop {
        if let PushFrame::Message { payload, .. } = subscriber.receive().await?
            && payload == word
        {
            if let Endpoint::Node(node, _) = endpoint {
                subscriber.shard(node);
            } else {
                check_sentinels(&config, node).await?;
            }
            return Ok(ConnectionPair::new(config, subscriber, command_connection, replicas, driver, channel));
        }
    }
}

/// Subscribes to the probe's channel and returns its name.
async fn subscribe_to_probe(
    config: &RedisBrokerConfig,
    endpoint: &Endpoint,
    subscriber: &mut Subscriber,
) -> Result<String, SetupError> {
    loop {
        let (subscribe, channel) = match endpoint {
            Endpoint::Primary => ("SUBSCRIBE", config.keyspace.probe_channel(&config.instance)),
            Endpoint::Node(node, router) => {
                let number = router.number_at(node).ok_or_else(|| SetupError::Idle(node.clone()))?;
                ("SSUBSCRIBE", config.keyspace.probe_channel_at(&config.instance, number))
            }
        };
        match (subscriber.ask(&[subscribe, &channel]).await?, endpoint) {
            (PushFrame::Subscribed { .. }, _) => return Ok(channel),
            (PushFrame::Refused(text), Endpoint::Node(node, router)) => match Redirection::parse(&text, node) {
                // The node's own answer is newer than the map. Each round corrects another slot.
                Some(Redirection::Moved(slot, to)) if to != *node => drop(router.moved(slot, node, &to)),
                _ => return Err(SubscriberError::Refused(text).into()),
            },
            (PushFrame::Refused(text), Endpoint::Primary) => return Err(SubscriberError::Refused(text).into()),
            (other, _) => return Err(SetupError::WrongServer(format!("it answers {subscribe} with {other:?}"))),
        }
    }
}

/// Room for every call that may run on a connection. A call that had to wait for room in the client's queue (50 by
/// default) would be overtaken by later ones, and publishes would lose their order.
pub(super) fn calls_max(config: &RedisBrokerConfig) -> usize {
    config.in_flight_bytes_max / CALL_BYTES + UNCOUNTED_CALLS_MAX
}

/// Connects to the first address that answers, and begins RESP3 there.
async fn open_subscriber(config: &RedisBrokerConfig, node: &Node) -> Result<(SocketAddr, Subscriber), SetupError> {
    let resolve = |error| SetupError::Resolve(node.host.clone(), error);
    let addresses = tokio::net::lookup_host((node.host.as_str(), node.port)).await.map_err(resolve)?;
    let mut failure = resolve(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        match config.target.connect(node, address).await {
            Ok(stream) => {
                let mut subscriber = Subscriber::new(stream);
                hello(config, node, &mut subscriber).await?;
                return Ok((address, subscriber));
            }
            Err(error) => failure = SetupError::Connect(address, error),
        }
    }
    Err(failure)
}

async fn hello(config: &RedisBrokerConfig, node: &Node, subscriber: &mut Subscriber) -> Result<(), SetupError> {
    let settings = config.target.settings();
    let name = config.keyspace.client_name(&config.instance, "subscriber");
    let mut command = vec!["HELLO", "3"];
    if let Some(password) = settings.password() {
        command.extend(["AUTH", settings.username().unwrap_or("default"), password]);
    }
    command.extend(["SETNAME", &name]);
    match subscriber.ask(&command).await? {
        PushFrame::Other(answer) => {
            let version = answer.get("version").and_then(Value::as_text).unwrap_or("unknown");
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            match major {
                Some(major) if major >= VERSION_MIN => check_place(config, node, &answer),
                _ => Err(SetupError::WrongServer(format!("its version is {version}"))),
            }
        }
        PushFrame::Refused(text) if text.contains("unknown command") => Err(SetupError::WrongServer(text)),
        PushFrame::Refused(text) => Err(SetupError::Refused(text)),
        other => Err(SetupError::WrongServer(format!("it answers HELLO with {other:?}"))),
    }
}

/// Checks that this server is of the kind that the URL says and a primary; the Sentinels' answer may be old.
fn check_place(config: &RedisBrokerConfig, node: &Node, hello: &Value) -> Result<(), SetupError> {
    let mode = hello.get("mode").and_then(Value::as_text).unwrap_or("standalone");
    let what = match (mode, config.target.topology()) {
        ("standalone", Topology::Standalone(_) | Topology::Sentinel(_)) | ("cluster", Topology::Cluster(_)) => None,
        ("sentinel", _) => Some("a Sentinel: write redis+sentinel://HOST:PORT,…/MASTER"),
        ("cluster", _) => Some("a node of a cluster: write redis+cluster://HOST:PORT,…"),
        (_, Topology::Cluster(_)) => Some("no node of a cluster: write redis://HOST:PORT"),
        _ => None,
    };
    if let Some(what) = what {
        return Err(SetupError::Topology(node.clone(), what));
    }
    match hello.get("role").and_then(Value::as_text) {
        Some("replica" | "slave") => Err(SetupError::Replica(node.clone())),
        _ => Ok(()),
    }
}

/// Checks with the Sentinels that the server is still the primary: a server that was frozen while the pair was opened
/// may have been replaced without knowing it. If no Sentinel answers, the server's own role is believed.
async fn check_sentinels(config: &RedisBrokerConfig, node: Node) -> Result<(), SetupError> {
    let Topology::Sentinel(sentinels) = config.target.topology() else { return Ok(()) };
    match sentinels.primary().await {
        Ok(primary) if primary != node => Err(SetupError::Replaced(node)),
        _ => Ok(()),
    }
}

async fn open_command_connection(
    config: &RedisBrokerConfig,
    server: (&Node, SocketAddr),
    driver: &mut JoinSet<Disconnected>,
) -> Result<CommandConnection, SetupError> {
    let connection = open_connection(config, server, calls_max(config), driver).await?;
    let deadline = Duration::from_millis(config.reply_deadline_ms);
    let command_connection =
        CommandConnection::new(connection, library_loader(config), deadline, config.probe_interval_ms);
    let mut name = redis::cmd("CLIENT");
    name.arg("SETNAME").arg(config.keyspace.client_name(&config.instance, "commands"));
    command_connection.send(&name).await?;
    Ok(command_connection)
}

pub(super) fn library_loader(config: &RedisBrokerConfig) -> LibraryLoader {
    LibraryLoader::new(config.library.clone(), Loading::Replace)
}

async fn open_replicas(
    config: &RedisBrokerConfig,
    server: (&Node, SocketAddr),
    driver: &mut JoinSet<Disconnected>,
) -> Result<Replicas, SetupError> {
    let mut connection = open_connection(config, server, UNCOUNTED_CALLS_MAX, driver).await?;
    let mut name = redis::cmd("CLIENT");
    name.arg("SETNAME").arg(config.keyspace.client_name(&config.instance, "replicas"));
    name.exec_async(&mut connection).await.map_err(CommandError::from)?;
    let (patience, deadline) = (config.replica_deadline_ms, config.reply_deadline_ms);
    Ok(Replicas::new(connection, Duration::from_millis(patience), Duration::from_millis(deadline)))
}

/// Opens further connections to the subscriber's address: a name with two servers behind it must not split a pair.
async fn open_connection(
    config: &RedisBrokerConfig,
    (node, address): (&Node, SocketAddr),
    calls_max: usize,
    driver: &mut JoinSet<Disconnected>,
) -> Result<MultiplexedConnection, SetupError> {
    let stream = config.target.connect(node, address).await.map_err(|error| SetupError::Connect(address, error))?;
    // The caller enforces the deadline, one for the whole call.
    let settings = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(calls_max);
    let opened = MultiplexedConnection::new_with_config(config.target.settings(), stream, settings).await;
    let (connection, driving) = opened.map_err(CommandError::from)?;
    driver.spawn(async move {
        driving.await;
        Disconnected("Redis closed the command connection".into())
    });
    Ok(connection)
}

/// A Redis that evicts any key may drop a lease, the metadata of a scope or its messages at any time.
///
/// `volatile-…` evicts keys with a TTL, and all keys of this product have one. The loss is announced as a gap, but the
/// operator should know the cause.
async fn check_eviction(command_connection: &CommandConnection) -> Result<(), SetupError> {
    let mut command = redis::cmd("INFO");
    command.arg("memory");
    let answer = command_connection.send(&command).await?;
    let text: String = redis::from_redis_value(answer).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let (limit, policy) = (field("maxmemory:"), field("maxmemory_policy:"));
    match policy.as_str() {
        "noeviction" | "" => {}
        // Without `maxmemory` the policy has no effect.
        policy if limit == "0" => {
            tracing::warn!(policy, "eviction policy unsafe: set maxmemory-policy noeviction before maxmemory")
        }
        policy if policy.starts_with("allkeys") => return Err(SetupError::Evicts(policy.to_owned())),
        policy => tracing::warn!(
            policy,
            "eviction policy unsafe: a full Redis evicts history and leases; set maxmemory-policy noeviction"
        ),
    }
    Ok(())
}
