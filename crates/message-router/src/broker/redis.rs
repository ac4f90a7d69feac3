//! The broker over Redis: it carries messages between the instances.
//!
//! ```text
//!              ┌─ ReconnectingConnection ── ConnectionPair ────────────────────────────────────────┐
//!   Command ──▶│ PublishQueues ─▶ PendingCalls ─▶ CommandConnection ═▶ FCALL …                     │═▶ Redis
//!   Event   ◀──│ Probe ─▶ tidegate_probe ─▶                                                        │
//!   Event   ◀──│ Subscriber ◀─ resp::Decoder ◀═ our own RESP3 socket, SUBSCRIBE                    │◀═ Redis
//!              └───────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The two connections of a [`connection_pair::ConnectionPair`] end together, and a
//! [`reconnecting_connection::ReconnectingConnection`] replaces them. There is one connection pair to the primary, or
//! in a Redis Cluster one to each primary, and calls follow redirections ([`cluster::Cluster`]). The only work in the
//! background is to move the bytes of the command connections: the task that awaits [`RedisBroker::next_event`] reads
//! the subscriber's socket itself.

mod backoff;
mod cluster;
mod cluster_router;
mod command_connection;
mod config;
mod connection_pair;
mod connection_setup;
mod desired_subscriptions;
mod failover_listener;
mod pending_calls;
mod probe;
mod publish_queue;
mod reconnecting_connection;
mod refused_scopes;
mod replicas;
mod resp;
mod sharded_commands;
mod subscriber;

use std::sync::Arc;

use redis_topology::Topology;

use self::cluster::Cluster;
pub use self::config::RedisBrokerConfig;
use self::connection_pair::LinkEvent;
use self::connection_setup::Endpoint;
use self::reconnecting_connection::ReconnectingConnection;
use super::{Broker, Command, Event};

/// Carries messages through Redis 7.0 or later, or Valkey: one server, one watched by Sentinels, or a cluster.
///
/// It connects again for ever. [`Event::Down`] is reported when a connection pair ends, when the first attempt fails,
/// and again when the reason has changed; the broker stays down between them. In a cluster the failure of a single node
/// does not take the broker down; the module `cluster` has the rule.
#[derive(Debug)]
pub struct RedisBroker {
    topology: BrokerTopology,
}

#[derive(Debug)]
enum BrokerTopology {
    Primary(Box<ReconnectingConnection>),
    Cluster(Box<Cluster>),
}

// === impl RedisBroker ===

impl RedisBroker {
    /// A broker that connects when its first event is awaited.
    ///
    /// # Panics
    /// Panics if the shortest backoff is 0 or longer than the longest one.
    #[must_use]
    pub fn new(config: RedisBrokerConfig) -> Self {
        let config = Arc::new(config);
        let topology = match config.target.topology() {
            Topology::Standalone(_) | Topology::Sentinel(_) => {
                BrokerTopology::Primary(Box::new(ReconnectingConnection::new(config, Endpoint::Primary)))
            }
            Topology::Cluster(_) => BrokerTopology::Cluster(Box::new(Cluster::new(config))),
        };
        Self { topology }
    }

    /// The next event that is available, without waiting.
    fn take_event(&mut self) -> Option<Event> {
        match &mut self.topology {
            BrokerTopology::Primary(connection) => match connection.take()? {
                LinkEvent::Event(event) => Some(event),
                LinkEvent::Ended(_) | LinkEvent::Misrouted(_) => unreachable!("one primary redirects nobody"),
            },
            BrokerTopology::Cluster(cluster) => cluster.take(),
        }
    }

    /// Waits until something has changed. If the future is dropped, no event is lost.
    async fn advance(&mut self) {
        match &mut self.topology {
            BrokerTopology::Primary(connection) => connection.advance().await,
            BrokerTopology::Cluster(cluster) => cluster.advance().await,
        }
    }
}

impl Broker for RedisBroker {
    fn command(&mut self, command: Command) {
        match &mut self.topology {
            BrokerTopology::Primary(connection) => connection.command(command),
            BrokerTopology::Cluster(cluster) => cluster.command(command),
        }
    }

    async fn next_event(&mut self) -> Event {
        // A busy Redis always has an event available; the other tasks of this thread must still get their turn.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(event) = self.take_event() {
                return event;
            }
            self.advance().await;
        }
    }

    fn try_next_event(&mut self) -> Option<Event> {
        self.take_event()
    }
}

/// 64 random bits for jitter and for marking probes. They need not be secret.
fn random() -> u64 {
    getrandom::u64().expect("the system has randomness once it has started")
}
