//! The budget for what waits for the blocked clients of all shards.

use std::cell::Cell;

use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::requests::ToShard;

/// One shard's part in keeping the budget.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes_max: u64,
    /// The shard with the largest backlog has been told that it is too much for all.
    has_asked: Cell<bool>,
}

impl Backlog {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, has_asked: Cell::new(false) }
    }

    /// How many bytes this shard has to evict: a shard above the average goes down to seven eighths of the budget, so that
    /// not every message asks again.
    pub(super) fn excess(&self, own: u64, hub: &Hub) -> Option<u64> {
        if own == 0 {
            return None; // The common case.
        }
        let total = hub.backlog();
        if total <= self.bytes_max {
            self.has_asked.set(false);
            return None;
        }
        if own * hub.indexes().count() as u64 >= total {
            return Some(total - self.bytes_max / 8 * 7);
        }
        if !self.has_asked.replace(true) {
            // The largest may have nothing else to do and not notice.
            let largest = hub.shards().max_by_key(|ShardHandle { counters, .. }| counters.backlog.get());
            largest.into_iter().for_each(|shard| shard.inbox.push(ToShard::Evict, 0));
        }
        None
    }

    /// Asks again, if it is still too much.
    pub(super) fn tick(&self) {
        self.has_asked.set(false);
    }
}
