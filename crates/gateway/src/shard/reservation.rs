//! A connection counts from the decision to answer it 101 to the end of its socket.
//!
//! Whoever is answered 101 is owed a close frame, and is one of those that an instance holds. In between the connection has
//! no shard yet: hyper writes the answer, TLS its last record, and then it waits in a mailbox. So it is counted before the
//! answer is decided; a drain that sees no connections has nobody left anywhere.

use std::sync::Arc;

use message_router::ShardIndex;

use crate::metrics::counters::ShardCounters;

/// A place on one shard for a connection that is on its way there; without one, it is given back.
#[derive(Debug)]
pub(crate) struct Reservation {
    shard: ShardIndex,
    /// Whose `connections` count it.
    counters: Option<Arc<ShardCounters>>,
}

impl Reservation {
    /// Counts one more connection.
    pub(super) fn on(shard: ShardIndex, counters: &Arc<ShardCounters>) -> Self {
        counters.connections.add(1);
        Self { shard, counters: Some(Arc::clone(counters)) }
    }

    pub(super) fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// The shard has the connection, and counts it until its socket is gone.
    pub(super) fn redeem(mut self) {
        self.counters = None;
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
        other.redeem();
        assert_eq!(counters.connections.get(), 1, "the shard's to count");
        assert_eq!(Arc::strong_count(&counters), 1);
    }
}
