//! Access to every shard: passes connections to shards, and messages to the shards that want them.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use message_router::ShardIndex;

use crate::host::mailbox::Mailbox;
use crate::metrics::counters::ShardCounters;
use crate::shard::departures::Departures;
use crate::shard::handoff::Handoff;
use crate::shard::requests::ToShard;
use crate::shard::reservation::Reservation;

/// Access to every shard. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    shards: Arc<[ShardHandle]>,
}

/// One shard as the other threads see it.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) inbox: Arc<Mailbox<ToShard>>,
    pub(crate) counters: Arc<ShardCounters>,
}

impl Hub {
    pub(crate) fn new(shards: Vec<ShardHandle>) -> Self {
        assert!((1..=ShardIndex::COUNT_MAX).contains(&shards.len()), "checked with the configuration");
        Self { shards: shards.into() }
    }

    /// Reserves a place on the shard with the fewest connections.
    pub(crate) fn reserve(&self) -> Reservation {
        // Counted here, so that a burst of upgrades is spread before the shards have handled any of it.
        let least = self.indexes().min_by_key(|index| self.shard(*index).counters.connections.get());
        let least = least.expect("there are shards");
        let reservation = Reservation::on(least, &self.shard(least).counters);
        // Pairs with the fence of `look_for_reservations`: if this caller still sees the instance running afterwards,
        // the drain counts this reservation.
        fence(Ordering::SeqCst);
        reservation
    }

    /// Call this after admission has been closed, and before the remaining connections are counted.
    pub(crate) fn look_for_reservations(&self) {
        fence(Ordering::SeqCst);
    }

    /// Passes a new connection to the shard of its reservation.
    pub(crate) fn place(&self, handoff: Handoff) {
        self.shard(handoff.reservation.shard()).inbox.push(ToShard::Adopt(Box::new(handoff)), 0);
    }

    /// Closes a connection without a token on the shard that has the most, if there is one.
    pub(crate) fn evict_unauthenticated(&self) {
        let most = self.shards().max_by_key(|shard| shard.counters.unauthenticated.get());
        if let Some(shard) = most.filter(|shard| shard.counters.unauthenticated.get() > 0) {
            shard.inbox.push(ToShard::EvictUnauthenticated, 0);
        }
    }

    /// Moves `count` clients away. They are taken one by one from the shard that then has the most.
    pub(crate) fn rebalance(&self, count: u64, spare: Duration, within: Duration) {
        let mut left: Vec<u64> = self.shards().map(|shard| shard.counters.connections.get()).collect();
        let before = left.clone();
        for _ in 0..count {
            let most = left.iter_mut().max().expect("there are shards");
            *most = most.saturating_sub(1);
        }
        let mut departures = Departures::spread(count as usize, within);
        for (shard, (before, left)) in self.shards().zip(before.iter().zip(&left)) {
            let some = departures.split((before - left) as usize);
            shard.inbox.push(ToShard::Rebalance(some, spare), 0);
        }
    }

    /// How many clients have been moved to other instances.
    pub(crate) fn rebalanced(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.rebalanced.get()).sum()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.connections.get()).sum()
    }

    /// Bytes that wait for slow clients.
    pub(crate) fn backlog(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.backlog.get()).sum()
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardHandle> {
        self.shards.iter()
    }

    pub(crate) fn shard(&self, index: ShardIndex) -> &ShardHandle {
        &self.shards[index.0 as usize]
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.shards.len()).map(|index| ShardIndex(index as u8))
    }
}
