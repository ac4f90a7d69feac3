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
    /// Gaps that had to be told to everybody in a scope.
    pub gaps: u64,
    /// Envelopes with a position that was never stored: a bare PUBLISH, left out.
    pub ghosts: u64,
    /// Envelopes that could not be read, left out.
    pub bad_envelopes: u64,
    /// Questions about history that failed.
    pub reads_failed: u64,
}
