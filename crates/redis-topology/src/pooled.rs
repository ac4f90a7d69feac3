//! Connections of one server's pool.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool_redis::{Connection, Manager};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError};

use crate::node::Node;
use crate::socket::tcp_settings;

/// Opens connections to one server, as [`crate::socket`] does. `deadline` is the longest time to connect, and to wait for
/// each answer. A connection is tried by PING before it is used again.
pub(crate) fn manager(info: ConnectionInfo, deadline: Duration) -> Result<Manager, RedisError> {
    let limits =
        AsyncConnectionConfig::new().set_connection_timeout(Some(deadline)).set_response_timeout(Some(deadline));
    Manager::new_with_config(info.set_tcp_settings(tcp_settings()), limits)
}

/// A connection of a pool, and its server. It returns to the pool when it is dropped, unless it is discarded.
pub struct PooledConnection {
    connection: Connection,
    node: Node,
}

impl PooledConnection {
    pub(crate) fn new(connection: Connection, node: Node) -> Self {
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
        drop(Connection::take(self.connection));
        self.node
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConnection").field("node", &self.node).finish_non_exhaustive()
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
