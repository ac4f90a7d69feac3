//! The way to every shard: hands connections to shards, and messages to interested shards.

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

/// The way to every shard. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    shards: Arc<[ShardHandle]>,
}

/// One shard as seen from outside.
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

    /// Counts one more connection, on the shard with the fewest.
    pub(crate) fn reserve(&self) -> Reservation {
        // Counted here, so that a burst of upgrades spreads before the shards have seen any of it.
        let least = self.indexes().min_by_key(|index| self.shard(*index).counters.connections.get());
        let least = least.expect("there are shards");
        let reservation = Reservation::on(least, &self.shard(least).counters);
        // With the one of `look_for_reservations`: who reserves and then sees the instance running is seen by its drain.
        fence(Ordering::SeqCst);
        reservation
    }

    /// To be called by who has said that nobody is taken in any more, before it counts who is left.
    pub(crate) fn look_for_reservations(&self) {
        fence(Ordering::SeqCst);
    }

    /// Gives a new connection to the shard that it is counted on.
    pub(crate) fn place(&self, handoff: Handoff) {
        self.shard(handoff.reservation.shard()).inbox.push(ToShard::Adopt(Box::new(handoff)), 0);
    }

    /// Takes clients from the shards with the most, as many from each as if one after the other was asked.
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

    /// How many clients have been sent to emptier instances.
    pub(crate) fn rebalanced(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.rebalanced.get()).sum()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.counters.connections.get()).sum()
    }

    /// What waits for slow clients.
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
