//! The client of Redis that publishes messages of one channel.

use std::time::Duration;

use keyspace::{Keyspace, Placed, PublishCall, PublishItem};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use redis_topology::{Node, Topology, publish_command, read_placed};
use tidegate_gateway::config::PublishConfig;
use tokio::time::{Instant, timeout};
use wire::Channel;

/// Longest time to connect to Redis, name resolution included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// After this time since the last query, the Sentinels are asked for the primary again before a call.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why messages may not have been stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error("Redis cannot be located; the message is not stored: {0}")]
    Lost(String),
    #[error("Redis does not answer; the message is not stored: {0}")]
    Unreachable(RedisError),
    #[error("Redis refused; the message is not stored: {0}")]
    Refused(RedisError),
    #[error("no answer from Redis; the message may have been stored: {0}")]
    Unknown(RedisError),
    #[error("the function failed half-way; the message may have been stored: {0}")]
    HalfWay(RedisError),
}

/// A message as Redis stores it, and the id that the publisher gave it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) message: Vec<u8>,
    pub(super) id: Option<String>,
}

/// Publishes messages. Keeps its connection between calls.
pub(super) struct Publisher<'c> {
    config: &'c PublishConfig,
    channel: &'c Channel,
    keys: Keyspace,
    open: Option<(Node, MultiplexedConnection)>,
    /// Time of the last query for the address of Redis.
    asked: Instant,
}

// === impl Publisher ===

impl<'c> Publisher<'c> {
    pub(super) fn new(config: &'c PublishConfig, channel: &'c Channel) -> Self {
        Self { config, channel, keys: Keyspace::new(config.redis.prefix.clone()), open: None, asked: Instant::now() }
    }

    /// Stores and publishes all items, or none.
    pub(super) async fn store(&mut self, items: &[Item]) -> Result<Vec<Placed>, PublishError> {
        let Channel { scope, .. } = self.channel;
        let publish = PublishCall::new(&self.keys, scope, items.iter().any(|item| item.id.is_some()));
        let topic = self.channel.topic();
        let words = items.iter().map(|Item { message, id }| PublishItem { topic, message, id: id.as_deref() });
        let call = publish_command(&publish, words);
        let (node, mut redis) = self.connect().await?;
        let answer = self.ask(&mut redis, &call, false).await;
        let answer = match answer {
            Err(PublishError::Refused(error)) if error.redirect_node().is_some() => {
                self.follow(&node, &call, error).await?
            }
            answer => answer?,
        };
        read_placed(&publish, items.len(), &answer).ok_or_else(|| {
            let what = RedisError::from((ErrorKind::UnexpectedReturnType, "unexpected reply of the function"));
            PublishError::Unknown(what)
        })
    }

    /// Returns the connection to the scope's server, and connects if there is none.
    async fn connect(&mut self) -> Result<(Node, MultiplexedConnection), PublishError> {
        let is_watched = matches!(self.config.redis.target.topology(), Topology::Sentinel(_));
        loop {
            let (node, redis) = match &self.open {
                Some(open) => open.clone(),
                None => {
                    let node = self.locate().await?;
                    self.connect_to(node).await?
                }
            };
            if !is_watched || self.asked.elapsed() <= ASK_AGAIN {
                return Ok((node, redis));
            }
            // An old primary may answer for a while after a failover. If no Sentinel answers, the open connection is
            // used.
            match self.locate().await {
                Ok(primary) if primary != node => self.open = None,
                _ => return Ok((node, redis)),
            }
        }
    }

    async fn locate(&mut self) -> Result<Node, PublishError> {
        let located = timeout(CONNECT_DEADLINE, self.config.redis.target.locate(self.keys.slot(&self.channel.scope)));
        let located = located.await;
        self.asked = Instant::now();
        let node = located.map_err(|_| PublishError::Lost("no answer in time".into()))?;
        node.map_err(|error| PublishError::Lost(error.to_string()))
    }

    async fn connect_to(&mut self, node: Node) -> Result<(Node, MultiplexedConnection), PublishError> {
        let client = Client::open(self.config.redis.target.info(&node)).map_err(PublishError::Unreachable)?;
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(Some(self.config.redis.reply_deadline));
        let connected = client.get_multiplexed_async_connection_with_config(&options).await;
        let redis = connected.map_err(PublishError::Unreachable)?;
        self.open = Some((node.clone(), redis.clone()));
        Ok((node, redis))
    }

    /// Follows a redirection of the cluster: the scope's slot is moving to another node, or has moved.
    async fn follow(&mut self, old: &Node, call: &Cmd, error: RedisError) -> Result<Value, PublishError> {
        let address = error.redirect_node().map(|(address, _)| address).unwrap_or_default();
        let mut new = Node::parse(address)
            .ok_or_else(|| PublishError::Lost(format!("redirected to the invalid address {address:?}")))?;
        if new.host.is_empty() {
            new.host.clone_from(&old.host);
        }
        let asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        let (_, mut redis) = self.connect_to(new).await?;
        let answer = self.ask(&mut redis, call, asking).await;
        if asking {
            // Until the move is complete, the old node is the right one.
            self.open = None;
        }
        answer
    }

    /// Sends the call to one server. `asking` sends ASKING first, for a slot that is moving to this server.
    async fn ask(&self, redis: &mut MultiplexedConnection, call: &Cmd, asking: bool) -> Result<Value, PublishError> {
        let mut answer = call_once(redis, call, asking).await;
        if answer.as_ref().is_err_and(is_function_missing) {
            load_library(redis, self.config).await.map_err(|error| match error.is_io_error() {
                true => PublishError::Unreachable(error),
                false => PublishError::Refused(error),
            })?;
            answer = call_once(redis, call, asking).await;
        }
        answer.map_err(|error| match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension if is_half_way(&error) => PublishError::HalfWay(error),
            ErrorKind::Server(_) | ErrorKind::Extension => PublishError::Refused(error),
            _ => PublishError::Unknown(error),
        })
    }
}

async fn call_once(redis: &mut MultiplexedConnection, call: &Cmd, asking: bool) -> RedisResult<Value> {
    if asking {
        redis::cmd("ASKING").exec_async(redis).await?;
    }
    call.query_async(redis).await
}

/// Loads the function library if Redis has none. An existing library is kept: gateways load it, and they know all
/// families.
async fn load_library(redis: &mut MultiplexedConnection, config: &PublishConfig) -> RedisResult<()> {
    let loaded =
        redis::cmd("FUNCTION").arg("LOAD").arg(config.policies.library().source()).query_async::<String>(redis).await;
    match loaded {
        Err(error) if error.detail().is_some_and(|detail| detail.contains("already exists")) => Ok(()),
        other => other.map(drop),
    }
}

fn is_function_missing(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// Whether a command within the function failed. What the function wrote before stays.
fn is_half_way(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("script: "))
}
