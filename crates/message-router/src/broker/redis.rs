//! The broker that makes a cluster: messages go through Redis.
//!
//! ```text
//!              ┌─ Line ── Link ────────────────────────────────────────────────────┐
//!   Command ──▶│ Lanes ─▶ Calls ─▶ Caller ═ MultiplexedConnection ═▶ FCALL …       │═▶ Redis
//!   Event   ◀──│ Probe ─▶ tidegate_probe ─▶                                        │
//!   Event   ◀──│ Subscriber ◀─ resp::Decoder ◀═ our own RESP3 socket, SUBSCRIBE    │◀═ Redis
//!              └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Both connections live and die as one [`link::Link`], and a [`line::Line`] makes it anew. There is one line to the one
//! primary, or in a Redis Cluster one to each, with calls that find their way by themselves ([`cluster::Cluster`]).
//! Nothing runs in the background but the moving of the command connections' bytes: whoever awaits
//! [`RedisBroker::next_event`] reads the subscriber's socket itself.

mod backoff;
mod caller;
mod calls;
mod cluster;
mod config;
mod greeting;
mod guide;
mod lanes;
mod line;
mod link;
mod probe;
mod redirection;
mod replicas;
mod resp;
mod sharded;
mod subscriber;
mod switch;
mod wishes;

use std::sync::Arc;

use redis_topology::Topology;

use self::cluster::Cluster;
pub use self::config::RedisBrokerConfig;
use self::greeting::Spot;
use self::line::Line;
use self::link::Told;
use super::{Broker, Command, Event};

/// Carries messages through Redis 7.0 or later, or Valkey: one server, one watched by Sentinels, or a cluster.
///
/// It tries for ever. [`Event::Down`] is told when a link ends, when the first attempt fails, and again when the
/// reason has changed; between them the broker is down all the same. In a cluster a single node's link is not the
/// broker's; see the module `cluster` for the rule.
#[derive(Debug)]
pub struct RedisBroker {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Primary(Box<Line>),
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
        let kind = match config.target.topology() {
            Topology::Standalone(_) | Topology::Sentinel(_) => {
                Kind::Primary(Box::new(Line::new(config, Spot::Primary)))
            }
            Topology::Cluster(_) => Kind::Cluster(Box::new(Cluster::new(config))),
        };
        Self { kind }
    }

    /// What is at hand, without waiting.
    fn take_event(&mut self) -> Option<Event> {
        match &mut self.kind {
            Kind::Primary(line) => match line.take()? {
                Told::Event(event) => Some(event),
                Told::Ended(_) | Told::Bounced(_) => unreachable!("one primary redirects nobody"),
            },
            Kind::Cluster(cluster) => cluster.take(),
        }
    }

    /// Waits until something has changed. Dropping the future loses nothing.
    async fn advance(&mut self) {
        match &mut self.kind {
            Kind::Primary(line) => line.advance().await,
            Kind::Cluster(cluster) => cluster.advance().await,
        }
    }
}

impl Broker for RedisBroker {
    fn command(&mut self, command: Command) {
        match &mut self.kind {
            Kind::Primary(line) => line.command(command),
            Kind::Cluster(cluster) => cluster.command(command),
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
