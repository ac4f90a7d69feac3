//! The broker that makes a cluster: messages go through Redis.
//!
//! ```text
//!              ┌─ ReconnectingConnection ── ConnectionPair ────────────────────────────────────────┐
//!   Command ──▶│ PublishQueues ─▶ PendingCalls ─▶ CommandClient ═ MultiplexedConnection ═▶ FCALL … │═▶ Redis
//!   Event   ◀──│ Probe ─▶ tidegate_probe ─▶                                                        │
//!   Event   ◀──│ Subscriber ◀─ resp::Decoder ◀═ our own RESP3 socket, SUBSCRIBE                    │◀═ Redis
//!              └───────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Both connections live and die as one [`connection_pair::ConnectionPair`], and a [`reconnecting_connection::ReconnectingConnection`] makes it anew. There is one connection pair to the one
//! primary, or in a Redis Cluster one to each, with calls that find their way by themselves ([`cluster::Cluster`]).
//! Nothing runs in the background but the moving of the command connections' bytes: whoever awaits
//! [`RedisBroker::next_event`] reads the subscriber's socket itself.

mod backoff;
mod cluster;
mod cluster_router;
mod command_client;
mod config;
mod connection_pair;
mod connection_setup;
mod desired_subscriptions;
mod failover_listener;
mod pending_calls;
mod probe;
mod publish_queue;
mod reconnecting_connection;
mod redirection;
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
/// It tries for ever. [`Event::Down`] is told when a link ends, when the first attempt fails, and again when the
/// reason has changed; between them the broker is down all the same. In a cluster a single node's link is not the
/// broker's; see the module `cluster` for the rule.
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
    /// A broker that connects when it is first awaited.
    ///
    /// # Panics
    /// When the shortest backoff is 0 or above the longest.
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

    /// What is at hand, without waiting.
    fn take_event(&mut self) -> Option<Event> {
        match &mut self.topology {
            BrokerTopology::Primary(connection) => match connection.take()? {
                LinkEvent::Event(event) => Some(event),
                LinkEvent::Ended(_) | LinkEvent::Misrouted(_) => unreachable!("one primary redirects nobody"),
            },
            BrokerTopology::Cluster(cluster) => cluster.take(),
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
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
        // A busy Redis always has an event at hand; the other tasks of this thread get their turn all the same.
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

/// 64 bits for jitter and for telling words apart; nothing secret hangs on them.
fn random() -> u64 {
    getrandom::u64().expect("the system has randomness once it has started")
}
