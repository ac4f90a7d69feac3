//! Connections of one server's pool: how they are opened, and tried before they are used again.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError};

use crate::node::Node;
use crate::socket::open;

/// Connections to one server.
pub(crate) type Pool = managed::Pool<NodeConnections>;

/// Opens the connections of a pool.
#[derive(Debug)]
pub(crate) struct NodeConnections {
    info: ConnectionInfo,
    /// Longest time to connect, and to wait for each answer.
    deadline: Duration,
    /// Number of the next PING.
    pings: AtomicUsize,
}

/// A connection of a pool, and its server. It returns to the pool when it is dropped, unless it is discarded.
#[derive(Debug)]
pub struct PooledConnection {
    connection: Object<NodeConnections>,
    node: Node,
}

impl NodeConnections {
    pub(crate) fn new(info: ConnectionInfo, deadline: Duration) -> Self {
        Self { info, deadline, pings: AtomicUsize::new(0) }
    }
}

impl managed::Manager for NodeConnections {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<MultiplexedConnection, RedisError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        open(self.info.clone(), &limits).await
    }

    /// Tests a connection before it is used again. The answer to an earlier command would show that its caller has left; such
    /// a connection is closed.
    async fn recycle(&self, connection: &mut MultiplexedConnection, _: &Metrics) -> RecycleResult<RedisError> {
        let number = self.pings.fetch_add(1, Ordering::Relaxed).to_string();
        let answer: String = redis::cmd("PING").arg(&number).query_async(connection).await?;
        if answer == number { Ok(()) } else { Err(RecycleError::message("an answer to another question")) }
    }
}

impl PooledConnection {
    pub(crate) fn new(connection: Object<NodeConnections>, node: Node) -> Self {
        Self { connection, node }
    }

    /// The server, for [`crate::Pools::answered`].
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Closes the connection instead of returning it to the pool, because an answer may still arrive on it. Returns the server,
    /// for [`crate::Pools::failed`].
    #[must_use]
    pub fn discard(self) -> Node {
        drop(Object::take(self.connection));
        self.node
    }
}

impl Deref for PooledConnection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }
}
