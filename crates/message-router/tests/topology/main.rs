//! The Redis broker with several servers: Sentinels that change the primary, and a cluster that moves its slots.

mod cluster;
mod sentinel;
mod stale_sentinels;
mod subscriber;

use std::time::{Duration, Instant};

use keyspace::Keyspace;
use message_router::{Policies, RedisBrokerConfig};
use redis_topology::Target;
use wire::{InstanceId, Scope};

/// Text of a test message.
const MESSAGE: &[u8] = br#"{"type":"t"}"#;

fn config(url: &str) -> RedisBrokerConfig {
    let instance = InstanceId::parse("gw-1").unwrap();
    let target = Target::parse(url).unwrap();
    let mut config = RedisBrokerConfig::new(target, Keyspace::default(), instance, Policies::default().library());
    // A slow answer of a busy machine must not count as an outage in these tests.
    config.probe_interval_ms = 60_000;
    config.reply_deadline_ms = 60_000;
    config.backoff_min_ms = 10;
    config.backoff_max_ms = 100;
    config
}

fn scope(text: &str) -> Scope {
    Policies::default().families().parse_scope(text).unwrap()
}

/// Waits until a server reaches a state.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + subscriber::DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
