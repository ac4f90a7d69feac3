//! A connection counts from the decision to answer it 101 until its socket ends.
//!
//! A client that is answered 101 must get a close frame, and counts as a connection of the instance. Between the answer
//! and its shard the connection belongs to no shard: hyper writes the answer, TLS writes its last record, and then the
//! connection waits in a mailbox. So it is counted before the answer is decided. When a drain sees no connections, none
//! is left anywhere.

use std::sync::Arc;

use message_router::ShardIndex;

use crate::metrics::counters::ShardCounters;

/// A place on one shard for a connection on its way there. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Reservation {
    shard: ShardIndex,
    /// The shard's counters, whose `connections` includes this one. `None` when the shard has taken it over.
    counters: Option<Arc<ShardCounters>>,
    /// Its place among the connections of its client's address, if that is counted.
    address: Option<AddressPlace>,
}

/// One connection of an address. Dropping it gives the place back, on any thread.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    _place: Arc<()>,
}

impl AddressPlace {
    /// `places` has as many clones as the address has connections.
    pub(crate) fn new(places: &Arc<()>) -> Self {
        Self { _place: Arc::clone(places) }
    }
}

impl Reservation {
    /// Counts one more connection.
    pub(super) fn on(shard: ShardIndex, counters: &Arc<ShardCounters>) -> Self {
        counters.connections.add(1);
        Self { shard, counters: Some(Arc::clone(counters)), address: None }
    }

    pub(super) fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// The connection also counts for its client's address.
    pub(crate) fn hold(&mut self, address: Option<AddressPlace>) {
        self.address = address;
    }

    /// The shard has the connection now, and counts it until its socket ends. It keeps the place that is returned until
    /// then.
    pub(super) fn redeem(mut self) -> Option<AddressPlace> {
        self.counters = None;
        self.address.take()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(counters) = &self.counters {
            counters.connections.sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_until_it_is_given_back_or_its_connection_ends() {
        let counters = Arc::default();
        let [one, other] = [(); 2].map(|()| Reservation::on(ShardIndex(0), &counters));
        assert_eq!(counters.connections.get(), 2);
        drop(one);
        assert_eq!(counters.connections.get(), 1);
        drop(other.redeem());
        assert_eq!(counters.connections.get(), 1, "the shard's to count");
        assert_eq!(Arc::strong_count(&counters), 1);
        // Its address counts it until its socket ends.
        let places = Arc::new(());
        let mut reservation = Reservation::on(ShardIndex(0), &counters);
        reservation.hold(Some(AddressPlace::new(&places)));
        let place = reservation.redeem();
        assert_eq!(Arc::strong_count(&places), 2);
        drop(place);
        assert_eq!(Arc::strong_count(&places), 1);
    }
}
