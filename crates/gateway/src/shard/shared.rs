//! What the threads of one instance have in common.

use std::sync::Arc;
use std::time::Instant;

use connection_registry::{Directory, Presence};
use keyspace::Library;
use records::{DeadLetterQueue, DeadLetterQueueConfig, ReceiptBuffer};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::health::Health;
use crate::health::watchdog::Watchdog;
use crate::metrics::counters::{PresenceCounters, PumpCounters};
use crate::session::rules::Rules;
use crate::shard::hub::Hub;
use crate::shard::requests::PresenceInbox;

/// What every thread of the instance shares.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) rules: Arc<Rules>,
    /// The functions in Redis.
    pub(crate) library: Library,
    pub(crate) health: Arc<Health>,
    pub(crate) hub: Hub,
    pub(crate) pump: Arc<PumpCounters>,
    /// Where dead letters wait to be kept.
    pub(crate) dead_letter_queue: Arc<DeadLetterQueue>,
    /// Woken when the instance is asked to drain.
    pub(crate) leave: Arc<Notify>,
    /// Where receipts wait to be written.
    pub(crate) receipt_buffer: Arc<ReceiptBuffer>,
    /// Where shards tell who watches scopes.
    pub(crate) presence_inbox: Arc<PresenceInbox>,
    pub(crate) presence: Arc<PresenceCounters>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What shards tell of their connections.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    /// Who is connected.
    pub(crate) directory: Arc<Directory>,
    /// Who is in which scope.
    pub(crate) presence: Arc<Presence>,
}

impl Shared {
    /// Of an instance that begins, with these shards, until `stop` turns true.
    pub(crate) fn new(config: Config, rules: Rules, hub: Hub, stop: watch::Receiver<bool>) -> Self {
        let watchdog = Watchdog::new(config.shards, config.frozen_after, Instant::now());
        let dead_letter_queue = DeadLetterQueueConfig { message_bytes_max: config.dead_letters.message_bytes_max };
        Self {
            rules: Arc::new(rules),
            library: config.policies.library(),
            health: Arc::new(Health::new(watchdog)),
            hub,
            pump: Arc::default(),
            dead_letter_queue: Arc::new(DeadLetterQueue::new(dead_letter_queue)),
            leave: Arc::default(),
            receipt_buffer: Arc::default(),
            presence_inbox: Arc::new(PresenceInbox::new(usize::MAX)), // Bounded by what there is to watch.
            presence: Arc::default(),
            stop,
            config: Arc::new(config),
        }
    }
}
