//! What the router has seen, for metrics.

/// Counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouterCounts {
    /// Envelopes that had been handed on before.
    pub duplicates: u64,
    /// Holes found before an envelope.
    pub holes: u64,
    /// Messages that were missed, read and handed on.
    pub repaired: u64,
    /// Those of them that no later message would have shown: found by comparing with the broker's newest.
    pub check_repaired: u64,
    /// Scopes compared with the broker's newest position.
    pub checks: u64,
    /// Of these, scopes that stood elsewhere than the broker.
    pub check_holes: u64,
    /// Questions about newest positions that failed.
    pub checks_failed: u64,
    /// Subscriptions that ended while the broker was up, and were begun again.
    pub lost: u64,
    /// Gaps that had to be told to everybody in a scope.
    pub gaps: u64,
    /// Envelopes with a position that was never stored: a bare PUBLISH, left out.
    pub unstored: u64,
    /// Envelopes that could not be read, left out.
    pub bad_envelopes: u64,
    /// Questions about history that failed.
    pub reads_failed: u64,
    /// Messages published while the broker was away, for the members on this instance.
    pub local: u64,
}
