//! Configuration of the Redis broker.

use keyspace::{Keyspace, Library};
use redis_topology::Target;
use wire::InstanceId;

/// Where Redis is and how it is used. [`Self::new`] sets the default that each field names.
#[derive(Debug, Clone)]
pub struct RedisBrokerConfig {
    pub(super) target: Target,
    /// Names of keys and channels.
    pub keyspace: Keyspace,
    /// The functions, with the families' retention compiled in.
    pub library: Library,
    /// The instance. Its id is part of the probe channel, and names the connections in `CLIENT LIST`.
    pub instance: InstanceId,
    /// Default 1,000. Interval of the probe. A dead connection is noticed within three intervals.
    pub probe_interval_ms: u64,
    /// Default 2,000. After this time a call ends, and its outcome is unknown.
    pub reply_deadline_ms: u64,
    /// Default false. Whether publishes may ask that a replica has them ([`crate::Publish::replicated`]), which takes
    /// a third connection. Without it, such publishes are answered as the others are.
    pub asks_replicas: bool,
    /// Default 500. How long a replica may take to have the messages.
    pub replica_deadline_ms: u64,
    /// Default 100. The shortest wait before connecting again.
    pub backoff_min_ms: u64,
    /// Default 5,000. The longest wait before connecting again.
    pub backoff_max_ms: u64,
    /// Default 16 MiB. Calls that wait for Redis may hold this much; further ones are refused at once.
    pub in_flight_bytes_max: usize,
}

// === impl RedisBrokerConfig ===

impl RedisBrokerConfig {
    /// The defaults, for the Redis at this location.
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
