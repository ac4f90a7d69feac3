//! What carries and keeps messages, leases and records: the memory of this process, or Redis. It is chosen once, at start.

use std::time::Duration;

use connection_registry::{
    MemoryStore as MemoryRegistry, PresenceReader, RedisStore, RedisStoreConfig, RevocationLog, Store,
};
use keyspace::Keyspace;
use message_router::{
    Broker, MemoryBroker, MemoryConfig, MemoryStore as MemoryMessages, RedisBroker, RedisBrokerConfig,
};
use records::EitherStore;
use redis_topology::Pools;

use crate::config::RedisConfig;
use crate::host::clock::{millis, unix_ms};
use crate::shard::shared::Shared;

/// One kind of backend.
pub(super) trait Backend: Send + 'static {
    type Broker: Broker + Send + 'static;
    type Registry: Store + PresenceReader + Clone;

    /// Carries and keeps messages.
    fn broker(&self, shared: &Shared) -> Self::Broker;

    /// Keeps leases, the directory and presence.
    fn registry(&self, shared: &Shared) -> Self::Registry;

    /// The log of revocations, on a new connection. Without Redis there is none.
    fn revocations(&self, shared: &Shared) -> Option<RevocationLog>;

    /// Keeps dead letters and receipts.
    fn records(&self, shared: &Shared) -> EitherStore;

    /// Interval at which the newest position of each scope is compared with the broker's, if it is not the default.
    fn check_interval(&self) -> Option<Duration>;

    /// Connection pools of these stores with their names, for metrics.
    fn pools(registry: &Self::Registry, records: &EitherStore) -> Vec<(&'static str, Pools)>;
}

/// The memory of this process. No other instance receives its messages.
#[derive(Debug)]
pub(super) struct MemoryBackend;

/// Redis, which all instances share.
#[derive(Debug)]
pub(super) struct RedisBackend(pub(super) Box<RedisConfig>);

impl Backend for MemoryBackend {
    type Broker = MemoryBroker;
    type Registry = MemoryRegistry;

    fn broker(&self, shared: &Shared) -> MemoryBroker {
        let policies = shared.config.policies.clone();
        let messages = MemoryMessages::new(MemoryConfig::new(policies, unix_ms() / 1_000, random_u16(), unix_ms));
        MemoryBroker::new(&messages)
    }

    fn registry(&self, shared: &Shared) -> MemoryRegistry {
        MemoryRegistry::new(shared.config.limits.fleet, shared.config.registry)
    }

    fn revocations(&self, _: &Shared) -> Option<RevocationLog> {
        None
    }

    fn records(&self, shared: &Shared) -> EitherStore {
        EitherStore::Memory(records::MemoryStore::new(shared.config.dead_letters.bounds))
    }

    fn check_interval(&self) -> Option<Duration> {
        None
    }

    fn pools(_: &MemoryRegistry, _: &EitherStore) -> Vec<(&'static str, Pools)> {
        Vec::new()
    }
}

impl Backend for RedisBackend {
    type Broker = RedisBroker;
    type Registry = RedisStore;

    fn broker(&self, shared: &Shared) -> RedisBroker {
        let Self(redis) = self;
        let (instance, library) = (shared.config.instance.clone(), shared.library.clone());
        let mut broker = RedisBrokerConfig::new(redis.target.clone(), self.keyspace(), instance, library);
        broker.probe_interval_ms = millis(redis.probe_interval);
        broker.reply_deadline_ms = millis(redis.reply_deadline);
        broker.asks_replicas = shared.rules.policies.asks_replicas();
        RedisBroker::new(broker)
    }

    fn registry(&self, shared: &Shared) -> RedisStore {
        RedisStore::new(self.registry_config(shared))
    }

    fn revocations(&self, shared: &Shared) -> Option<RevocationLog> {
        Some(RevocationLog::new(&self.registry_config(shared), shared.config.registry.call))
    }

    fn records(&self, shared: &Shared) -> EitherStore {
        EitherStore::Redis(Box::new(records::RedisStore::new(records::RedisStoreConfig {
            target: self.0.target.clone(),
            connections_max: self.0.pool_size,
            keyspace: self.keyspace(),
            library: shared.library.clone(),
            loading: records::Loading::Replace,
            deadline: self.0.reply_deadline,
            bounds: shared.config.dead_letters.bounds,
        })))
    }

    fn check_interval(&self) -> Option<Duration> {
        Some(self.0.check_interval)
    }

    fn pools(registry: &RedisStore, records: &EitherStore) -> Vec<(&'static str, Pools)> {
        let records = match records {
            EitherStore::Redis(store) => Some(("records", store.pools())),
            EitherStore::Memory(_) => None,
        };
        registry.pools().into_iter().chain(records).map(|(calls, pools)| (calls, pools.clone())).collect()
    }
}

impl RedisBackend {
    fn registry_config(&self, shared: &Shared) -> RedisStoreConfig {
        RedisStoreConfig {
            target: self.0.target.clone(),
            connections_max: self.0.pool_size,
            keyspace: self.keyspace(),
            library: shared.library.clone(),
            timings: shared.config.registry,
            limits: shared.config.limits.fleet,
        }
    }

    fn keyspace(&self) -> Keyspace {
        Keyspace::new(self.0.prefix.clone())
    }
}

fn random_u16() -> u16 {
    getrandom::u32().map_or_else(|_| std::process::id() as u16, |bits| bits as u16)
}
