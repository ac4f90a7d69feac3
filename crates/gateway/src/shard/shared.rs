//! What the threads of one instance share.

use std::sync::Arc;
use std::time::Instant;

use connection_registry::{Directory, Presence};
use keyspace::Library;
use records::{DeadLetterQueue, DeadLetterQueueConfig, ReceiptBuffer};
use tokio::sync::{Notify, watch};

use crate::config::{BrokerConfig, Config, Pages};
use crate::health::Health;
use crate::health::watchdog::Watchdog;
use crate::host::clock::unix_ms;
use crate::host::reloadable::Reloadable;
use crate::metrics::counters::{PresenceCounters, PumpCounters};
use crate::session::rules::Rules;
use crate::shard::hub::Hub;
use crate::shard::requests::PresenceInbox;

/// State that every thread of the instance shares.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) rules: Arc<Rules>,
    /// The pages that may connect.
    pub(crate) pages: Reloadable<Pages>,
    /// The library of functions in Redis.
    pub(crate) library: Library,
    pub(crate) health: Arc<Health>,
    pub(crate) hub: Hub,
    pub(crate) pump: Arc<PumpCounters>,
    /// Dead letters that wait to be stored.
    pub(crate) dead_letter_queue: Arc<DeadLetterQueue>,
    /// Notified when the instance is asked to drain.
    pub(crate) leave: Arc<Notify>,
    /// Receipts that wait to be written.
    pub(crate) receipt_buffer: Arc<ReceiptBuffer>,
    /// Requests of the shards to the presence service.
    pub(crate) presence_inbox: Arc<PresenceInbox>,
    pub(crate) presence: Arc<PresenceCounters>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Where shards register their connections.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    /// The connected sessions of this instance.
    pub(crate) directory: Arc<Directory>,
    /// The members of scopes on this instance.
    pub(crate) presence: Arc<Presence>,
}

impl Shared {
    /// The state of a new instance with these shards. It runs until `stop` turns true.
    pub(crate) fn new(config: Config, rules: Rules, hub: Hub, stop: watch::Receiver<bool>) -> Self {
        let watchdog = Watchdog::new(config.shards, config.frozen_after, Instant::now());
        let dead_letter_queue = DeadLetterQueueConfig { message_bytes_max: config.dead_letters.message_bytes_max };
        Self {
            rules: Arc::new(rules),
            pages: Reloadable::new(config.http.allowed_origins.clone().into()),
            library: library(&config),
            health: Arc::new(Health::new(watchdog)),
            hub,
            pump: Arc::default(),
            dead_letter_queue: Arc::new(DeadLetterQueue::new(dead_letter_queue)),
            leave: Arc::default(),
            receipt_buffer: Arc::default(),
            presence_inbox: Arc::new(PresenceInbox::new(usize::MAX)), // Bounded by the number of subscriptions.
            presence: Arc::default(),
            stop,
            config: Arc::new(config),
        }
    }
}

/// The function library of this instance. Its precedence says which families are in force while instances differ.
fn library(config: &Config) -> Library {
    let library = config.policies.library();
    match &config.broker {
        BrokerConfig::Memory => library,
        BrokerConfig::Redis(redis) => {
            library.with_precedence(Library::precedence_of(redis.families_revision, unix_ms()))
        }
    }
}
