//! What the threads of one instance have in common.

use std::sync::Arc;

use keyspace::Library;
use tokio::sync::watch;

use crate::config::Config;
use crate::counters::PumpCounters;
use crate::health::Health;
use crate::hub::Hub;
use crate::rules::Rules;

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
    pub(crate) stop: watch::Receiver<bool>,
}
