//! The configuration of a registry in Redis.

use keyspace::{Keyspace, Library};
use redis_topology::Target;

use crate::connection_limits::ConnectionLimits;
use crate::timings::Timings;

/// Configuration of a [`RedisStore`](super::RedisStore).
#[derive(Debug, Clone)]
pub struct RedisStoreConfig {
    /// Address of Redis, of its Sentinels or of its cluster.
    pub target: Target,
    /// Most connections of the pool. The owner's default is 100.
    pub connections_max: usize,
    /// Names of the keys.
    pub keyspace: Keyspace,
    /// Function library, loaded when Redis does not know the functions.
    pub library: Library,
    /// Deadline of a call, and lifetimes of leases, rows, members and records.
    pub timings: Timings,
    /// Most connections of a user and of a tenant.
    pub limits: ConnectionLimits,
}
