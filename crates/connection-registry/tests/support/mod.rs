//! A real Redis for one test: on a free port, in memory only, stopped at the end of the test.

use std::time::Duration;

use connection_registry::{
    ConnectionLimits, ConnectionRow, Duty, Heartbeat, Incarnation, Instance, Load, OnExcess, RedisStore,
    RedisStoreConfig, Timings,
};
use keyspace::{Keyspace, Library};
use redis::aio::MultiplexedConnection;
use redis_topology::Target;
use wire::{Families, InstanceId, TenantId, Timestamp, UserId};

/// A test fails when it has waited for this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Timings for tests in which no call times out and no lease ends, even on a busy machine.
pub(crate) fn unhurried() -> Timings {
    let [call, heartbeat, lease, reap, rows] = [20, 20, 120, 150, 300].map(Duration::from_secs);
    Timings { heartbeat, lease, reap, call, rows, ..Timings::default() }
}

/// Limits that no connection exceeds.
pub(crate) const ANY_NUMBER: ConnectionLimits =
    ConnectionLimits { per_user_max: 0, per_tenant_max: 0, on_excess: OnExcess::Reject };

/// A running server, and registries in it.
pub(crate) struct RedisServer(test_support::RedisServer);

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self(test_support::RedisServer::start(&[]))
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// A connection that does not use the store.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        self.0.connect_async().await
    }

    pub(crate) fn store(&self, timings: Timings, limits: ConnectionLimits) -> RedisStore {
        store_at(&self.url(), timings, limits)
    }
}

pub(crate) fn store_at(url: &str, timings: Timings, limits: ConnectionLimits) -> RedisStore {
    let families = Families::default();
    let library = Library::new(families.iter().map(|(_, shape)| (shape, 60_000, 100)));
    let (target, keyspace) = (Target::parse(url).unwrap(), Keyspace::default());
    RedisStore::new(RedisStoreConfig { target, connections_max: 100, keyspace, library, timings, limits })
}

/// Runs one command without the store.
pub(crate) async fn command<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

pub(crate) fn instance(id: &str, incarnation: u32) -> Instance {
    let address = format!("127.0.0.1:{incarnation}").into();
    Instance { id: InstanceId::parse(id).unwrap(), incarnation: Incarnation::new(1_700_000_000, incarnation), address }
}

/// A heartbeat of an instance without connections.
pub(crate) fn nth_heartbeat(number: u64) -> Heartbeat {
    Heartbeat { number, load: Load { connections: 0, connects_per_second: 0, duty: Duty::Full } }
}

pub(crate) fn row(user: &str) -> ConnectionRow {
    ConnectionRow {
        tenant: TenantId::default(),
        user: UserId::parse(user).unwrap(),
        shard: 1,
        connected_at: Timestamp(1_795_176_000_000),
    }
}
