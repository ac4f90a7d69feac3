//! What the Redis broker must be told.

use keyspace::{Keyspace, Library};
use redis_topology::Target;
use wire::InstanceId;

/// Where Redis is and how to treat it. Made by [`Self::new`] with the defaults given at each field.
#[derive(Debug, Clone)]
pub struct RedisBrokerConfig {
    pub(super) target: Target,
    /// Names of keys and channels.
    pub keyspace: Keyspace,
    /// The functions, with the families' retention compiled in.
    pub library: Library,
    /// Who we are: names the probe channel and our connections in `CLIENT LIST`.
    pub instance: InstanceId,
    /// 1,000. How often the way there and back is tried; a dead one is noticed within three times this.
    pub probe_interval_ms: u64,
    /// 2,000. After this long a call is given up, and its outcome unknown.
    pub reply_deadline_ms: u64,
    /// False. Whether publishes may ask that a replica has them ([`crate::Publish::replicated`]), which takes a third
    /// connection; without it, they are answered as the others are.
    pub asks_replicas: bool,
    /// 500. How long a replica may take to have what was stored.
    pub replica_deadline_ms: u64,
    /// 100. The first wait before connecting again.
    pub backoff_min_ms: u64,
    /// 5,000. The longest wait before connecting again.
    pub backoff_max_ms: u64,
    /// 16 MiB. Calls waiting for Redis may hold this much; above, they are refused at once.
    pub in_flight_bytes_max: usize,
}

// === impl RedisBrokerConfig ===

impl RedisBrokerConfig {
    /// The defaults, for the Redis at this place.
    #[must_use]
    pub fn new(target: Target, keyspace: Keyspace, instance: InstanceId, library: Library) -> Self {
        Self {
            target,
            keyspace,
            library,
            instance,
            probe_interval_ms: 1_000,
            reply_deadline_ms: 2_000,
            asks_replicas: false,
            replica_deadline_ms: 500,
            backoff_min_ms: 100,
            backoff_max_ms: 5_000,
            in_flight_bytes_max: 16 * 1024 * 1024,
        }
    }
}
