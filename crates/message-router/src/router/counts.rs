//! Counters of the router, for metrics.

/// Totals since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouterCounts {
    /// Envelopes that had been handed to the shards before.
    pub duplicates: u64,
    /// Holes found in front of an envelope.
    pub holes: u64,
    /// Missed messages that were read from history and handed to the shards.
    pub repaired: u64,
    /// Part of `repaired`: found by comparing with the broker's newest position. No later message would have shown the
    /// hole.
    pub check_repaired: u64,
    /// Scopes compared with the broker's newest position.
    pub checks: u64,
    /// Part of `checks`: scopes whose position differed from the broker's.
    pub check_holes: u64,
    /// Requests for newest positions that failed.
    pub checks_failed: u64,
    /// Subscriptions that ended while the broker was up, and were begun again.
    pub lost: u64,
    /// Gaps reported to all members of a scope.
    pub gaps: u64,
    /// Envelopes with a position that was never stored, from a bare PUBLISH. They are dropped.
    pub unstored: u64,
    /// Envelopes that could not be parsed. They are dropped.
    pub bad_envelopes: u64,
    /// Requests for history that failed.
    pub reads_failed: u64,
    /// Messages published while the broker was away, delivered only to members on this instance.
    pub local: u64,
}
