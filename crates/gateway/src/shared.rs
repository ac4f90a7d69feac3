//! What the threads of one instance have in common.

use std::sync::Arc;
use std::time::Instant;

use connection_registry::{Directory, Presence};
use keyspace::Library;
use records::{Ledger, Letterbox, LetterboxConfig};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::counters::{PresenceCounters, PumpCounters};
use crate::health::Health;
use crate::hub::Hub;
use crate::presence::DeskInbox;
use crate::rules::Rules;
use crate::watchdog::Watchdog;

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
    pub(crate) letterbox: Arc<Letterbox>,
    /// Woken when the instance is asked to drain.
    pub(crate) leave: Arc<Notify>,
    /// Where receipts wait to be written.
    pub(crate) ledger: Arc<Ledger>,
    /// Where shards tell who watches scopes.
    pub(crate) desk: Arc<DeskInbox>,
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
        let letterbox = LetterboxConfig { message_bytes_max: config.dead_letters.message_bytes_max };
        Self {
            rules: Arc::new(rules),
            library: config.policies.library(),
            health: Arc::new(Health::new(watchdog)),
            hub,
            pump: Arc::default(),
            letterbox: Arc::new(Letterbox::new(letterbox)),
            leave: Arc::default(),
            ledger: Arc::default(),
            desk: Arc::new(DeskInbox::new(usize::MAX)), // Bounded by what there is to watch.
            presence: Arc::default(),
            stop,
            config: Arc::new(config),
        }
    }
}
