//! The limit for the bytes that wait for the blocked clients of all shards.

use std::cell::Cell;

use crate::shard::hub::{Hub, ShardHandle};
use crate::shard::requests::ToShard;

/// One shard's part in keeping the limit.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes_max: u64,
    /// Whether the shard with the largest backlog has been asked to evict.
    has_asked: Cell<bool>,
}

impl Backlog {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, has_asked: Cell::new(false) }
    }

    /// How many bytes this shard has to evict. A shard with at least the average backlog reduces the total to seven
    /// eighths of the limit, so that not every message causes an eviction.
    pub(super) fn excess(&self, own: u64, hub: &Hub) -> Option<u64> {
        if own == 0 {
            return None; // Usually no client is blocked.
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
            // The shard with the largest backlog may be idle and not check by itself.
            let largest = hub.shards().max_by_key(|ShardHandle { counters, .. }| counters.backlog.get());
            largest.into_iter().for_each(|shard| shard.inbox.push(ToShard::Evict, 0));
        }
        None
    }

    /// Allows the next request to the largest shard, if the total is still above the limit.
    pub(super) fn tick(&self) {
        self.has_asked.set(false);
    }
}
