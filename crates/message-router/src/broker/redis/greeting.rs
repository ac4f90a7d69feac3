//! How a link begins: both connections to one address, the right kind of server, our library, and a first word
//! that went all the way round.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::caller::{CallError, Caller};
use super::calls::CALL_BYTES;
use super::config::RedisBrokerConfig;
use super::link::Link;
use super::resp::{Heard, Value};
use super::subscriber::{Subscriber, SubscriberError, connect};

/// Functions came with this version.
const VERSION_MIN: u32 = 7;
/// Calls beside those that `Calls` bounds: probes until their deadline, and a load of the library.
const UNCOUNTED_CALLS_MAX: usize = 16;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
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
    #[error("Redis evicts keys at random when full (maxmemory-policy {0}): set noeviction, or volatile-ttl at least")]
    Evicts(String),
    #[error("Redis does not take the function library: {0}")]
    Library(CallError),
    #[error("Redis does not pass a message on: {0}")]
    Probe(CallError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Subscriber(#[from] SubscriberError),
}

/// Opens a link that has been seen to work.
pub(super) async fn greet(config: Arc<RedisBrokerConfig>) -> Result<Link, GreetingError> {
    // Each step is one round trip; twice a call's deadline is ample for all.
    let deadline = Duration::from_millis(config.reply_deadline_ms) * 2;
    let late = GreetingError::Late(config.target.host.clone(), deadline.as_millis());
    timeout(deadline, open(config)).await.unwrap_or(Err(late))
}

async fn open(config: Arc<RedisBrokerConfig>) -> Result<Link, GreetingError> {
    let (address, mut subscriber) = open_subscriber(&config).await?;
    let (caller, driver) = open_caller(&config, address).await?;
    check_eviction(&caller).await?;
    caller.load_library().await.map_err(GreetingError::Library)?;

    let channel = config.keyspace.probe_channel(&config.instance);
    match subscriber.ask(&["SUBSCRIBE", &channel]).await? {
        Heard::Subscribed { .. } => {}
        Heard::Refused(text) => return Err(SubscriberError::Refused(text).into()),
        other => return Err(GreetingError::WrongServer(format!("it answers SUBSCRIBE with {other:?}"))),
    }
    // Drawn anew: an echo of an earlier link, or of a second instance of this name, proves nothing.
    let word = format!("{:016x}", super::random());
    caller.clone().probe(&channel, &word).await.map_err(GreetingError::Probe)?;
    loop {
        if let Heard::Message { payload, .. } = subscriber.hear().await?
            && payload == word
        {
            return Ok(Link::new(config, subscriber, caller, driver));
        }
    }
}

/// Connects to the first address that answers, and speaks RESP3 there.
async fn open_subscriber(config: &RedisBrokerConfig) -> Result<(SocketAddr, Subscriber), GreetingError> {
    let target = &config.target;
    let resolve = |error| GreetingError::Resolve(target.host.clone(), error);
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(resolve)?;
    let mut failure = resolve(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        match connect(address).await {
            Ok(stream) => {
                let mut subscriber = Subscriber::new(stream);
                hello(config, &mut subscriber).await?;
                return Ok((address, subscriber));
            }
            Err(error) => failure = GreetingError::Connect(address, error),
        }
    }
    Err(failure)
}

async fn hello(config: &RedisBrokerConfig, subscriber: &mut Subscriber) -> Result<(), GreetingError> {
    let settings = &config.target.settings;
    let name = config.keyspace.client_name(&config.instance, "subscriber");
    let mut command = vec!["HELLO", "3"];
    if let Some(password) = settings.password() {
        command.extend(["AUTH", settings.username().unwrap_or("default"), password]);
    }
    command.extend(["SETNAME", &name]);
    match subscriber.ask(&command).await? {
        Heard::Other(answer) => {
            let version = answer.get("version").and_then(Value::as_text).unwrap_or("unknown");
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            match major {
                Some(major) if major >= VERSION_MIN => Ok(()),
                _ => Err(GreetingError::WrongServer(format!("its version is {version}"))),
            }
        }
        Heard::Refused(text) if text.contains("unknown command") => Err(GreetingError::WrongServer(text)),
        Heard::Refused(text) => Err(GreetingError::Refused(text)),
        other => Err(GreetingError::WrongServer(format!("it answers HELLO with {other:?}"))),
    }
}

/// The command connection goes to the subscriber's address: a name with two servers behind it must not split a link.
async fn open_caller(config: &RedisBrokerConfig, address: SocketAddr) -> Result<(Caller, JoinSet<()>), GreetingError> {
    let stream = connect(address).await.map_err(|error| GreetingError::Connect(address, error))?;
    // `Caller` keeps the deadline, one for all of a call.
    let settings = AsyncConnectionConfig::new().set_response_timeout(None);
    // Room for every call that may be under way. One that waits for room in the client's queue (50 by default) is
    // overtaken by later ones, and publishes lose their order.
    let calls_max = config.in_flight_bytes_max / CALL_BYTES + UNCOUNTED_CALLS_MAX;
    let settings = settings.set_pipeline_buffer_size(calls_max);
    let opened = MultiplexedConnection::new_with_config(&config.target.settings, stream, settings).await;
    let (connection, driving) = opened.map_err(CallError::from)?;
    let mut driver = JoinSet::new();
    driver.spawn(driving);
    let deadline = Duration::from_millis(config.reply_deadline_ms);
    let caller = Caller::new(connection, Arc::new(config.library.clone()), deadline);
    let mut name = redis::cmd("CLIENT");
    name.arg("SETNAME").arg(config.keyspace.client_name(&config.instance, "commands"));
    caller.send(&name).await?;
    Ok((caller, driver))
}

/// A Redis that evicts any key may drop a lease, a scope's metadata or its messages at any time.
///
/// Only our keys' TTLs protect them from `volatile-…`, and all of them have one: what is lost is announced as
/// a gap, but the operator should know.
async fn check_eviction(caller: &Caller) -> Result<(), GreetingError> {
    let mut command = redis::cmd("INFO");
    command.arg("memory");
    let answer = caller.send(&command).await?;
    let text: String = redis::from_redis_value(answer).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let (limit, policy) = (field("maxmemory:"), field("maxmemory_policy:"));
    match policy.as_str() {
        "noeviction" | "" => {}
        // Without a limit the policy sleeps.
        policy if limit == "0" => tracing::warn!(policy, "set Redis' maxmemory-policy to noeviction before maxmemory"),
        policy if policy.starts_with("allkeys") => return Err(GreetingError::Evicts(policy.to_owned())),
        policy => tracing::warn!(policy, "a full Redis will evict history and leases: set maxmemory-policy noeviction"),
    }
    Ok(())
}
